/* Writes a text into the lower right corner: letters of 5 x 7 dots, as large as a sixteenth of the picture's height,
 * blended into the luma. */
#define CUBECAST_FRAMES 16
#define CUBECAST_BYTES (16 << 20)
#include "cubecast.h"

#define TEXT_MAX 32
#define ROWS 7
#define COLUMNS 6 /* with the gap */

static const uint8_t letter[128][ROWS] = {
    [' '] = {0, 0, 0, 0, 0, 0, 0},
    ['-'] = {0, 0, 0, 31, 0, 0, 0},
    ['.'] = {0, 0, 0, 0, 0, 12, 12},
    ['/'] = {1, 1, 2, 4, 8, 16, 16},
    ['0'] = {14, 17, 19, 21, 25, 17, 14},
    ['1'] = {4, 12, 4, 4, 4, 4, 14},
    ['2'] = {14, 17, 1, 6, 8, 16, 31},
    ['3'] = {31, 2, 4, 2, 1, 17, 14},
    ['4'] = {2, 6, 10, 18, 31, 2, 2},
    ['5'] = {31, 16, 30, 1, 1, 17, 14},
    ['6'] = {6, 8, 16, 30, 17, 17, 14},
    ['7'] = {31, 1, 2, 4, 8, 8, 8},
    ['8'] = {14, 17, 17, 14, 17, 17, 14},
    ['9'] = {14, 17, 17, 15, 1, 2, 12},
    [':'] = {0, 12, 12, 0, 12, 12, 0},
    ['A'] = {14, 17, 17, 31, 17, 17, 17},
    ['B'] = {30, 17, 17, 30, 17, 17, 30},
    ['C'] = {14, 17, 16, 16, 16, 17, 14},
    ['D'] = {30, 17, 17, 17, 17, 17, 30},
    ['E'] = {31, 16, 16, 30, 16, 16, 31},
    ['F'] = {31, 16, 16, 30, 16, 16, 16},
    ['G'] = {14, 17, 16, 23, 17, 17, 14},
    ['H'] = {17, 17, 17, 31, 17, 17, 17},
    ['I'] = {14, 4, 4, 4, 4, 4, 14},
    ['J'] = {7, 2, 2, 2, 2, 18, 12},
    ['K'] = {17, 18, 20, 24, 20, 18, 17},
    ['L'] = {16, 16, 16, 16, 16, 16, 31},
    ['M'] = {17, 27, 21, 21, 17, 17, 17},
    ['N'] = {17, 25, 21, 19, 17, 17, 17},
    ['O'] = {14, 17, 17, 17, 17, 17, 14},
    ['P'] = {30, 17, 17, 30, 16, 16, 16},
    ['Q'] = {14, 17, 17, 17, 21, 18, 13},
    ['R'] = {30, 17, 17, 30, 20, 18, 17},
    ['S'] = {15, 16, 16, 14, 1, 1, 30},
    ['T'] = {31, 4, 4, 4, 4, 4, 4},
    ['U'] = {17, 17, 17, 17, 17, 17, 14},
    ['V'] = {17, 17, 17, 17, 17, 10, 4},
    ['W'] = {17, 17, 17, 21, 21, 27, 17},
    ['X'] = {17, 17, 10, 4, 10, 17, 17},
    ['Y'] = {17, 17, 10, 4, 4, 4, 4},
    ['Z'] = {31, 1, 2, 4, 8, 16, 31},
};

static uint8_t text[TEXT_MAX], video[CUBECAST_TRACKS];
static int32_t length, weight; /* of 256 */

CUBECAST_EXPORT int32_t init(int32_t bytes) {
    const char *wanted = cubecast_setting(bytes, "text", &length);
    double opacity = cubecast_number(bytes, "opacity", 0.6);
    if (!wanted || length < 1 || length > TEXT_MAX || !(opacity > 0 && opacity <= 1)) return -1;
    for (int32_t k = 0; k < length; k++) {
        char each = wanted[k];
        if (each >= 'a' && each <= 'z') each -= 32;
        text[k] = each > 0 ? (uint8_t)each : ' ';
    }
    weight = (int32_t)(opacity * 256);
    for (uint32_t n = 0; n < cubecast.layout.track_count; n++) video[n] = cubecast.track[n].kind == CUBECAST_VIDEO;
    return 0;
}

static void write_text(uint8_t *luma, int32_t w, int32_t h) {
    int32_t dot = h / 16 / ROWS;
    if (dot < 1) dot = 1;
    int32_t left = w - (length * COLUMNS + 1) * dot, top = h - (ROWS + 1) * dot;
    for (int32_t y = 0; y < ROWS * dot; y++)
        for (int32_t x = 0; x < length * COLUMNS * dot; x++) {
            int32_t column = x / dot % COLUMNS, at_x = left + x, at_y = top + y;
            if (column == COLUMNS - 1 || at_x < 0 || at_y < 0) continue;
            if (letter[text[x / dot / COLUMNS]][y / dot] >> (COLUMNS - 2 - column) & 1) {
                uint8_t *to = luma + at_y * w + at_x;
                *to = (uint8_t)((*to * (256 - weight) + 235 * weight) >> 8);
            }
        }
}

CUBECAST_EXPORT int32_t process_batch(int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        const cubecast_frame *frame = &cubecast.in[i];
        if (frame->track < CUBECAST_TRACKS && video[frame->track]) {
            const cubecast_track *track = &cubecast.track[frame->track];
            if (frame->size < track->width * track->height) return -2;
            write_text(cubecast_payload(frame), (int32_t)track->width, (int32_t)track->height);
        }
        cubecast_emit(frame);
    }
    return cubecast_done();
}

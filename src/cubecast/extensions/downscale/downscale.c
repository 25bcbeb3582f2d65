/* Halves pictures of planar YUV 4:2:0 in both directions: each sample is the mean of four, rounded. In place. */
#define CUBECAST_FRAMES 16
#define CUBECAST_BYTES (16 << 20)
#include "cubecast.h"

static uint8_t video[CUBECAST_TRACKS];
static uint32_t width[CUBECAST_TRACKS], height[CUBECAST_TRACKS];

CUBECAST_EXPORT int32_t init(int32_t bytes) {
    (void)bytes;
    for (uint32_t n = 0; n < cubecast.layout.track_count; n++) {
        cubecast_track *track = &cubecast.track[n];
        if (track->kind != CUBECAST_VIDEO) continue;
        if (track->width < 4 || track->height < 4) return -1;
        video[n] = 1;
        width[n] = track->width;
        height[n] = track->height;
        track->width = track->width / 4 * 2; /* of 4:2:0 both are even */
        track->height = track->height / 4 * 2;
    }
    return 0;
}

static void halve(const uint8_t *restrict from, uint32_t stride, uint8_t *to, uint32_t w, uint32_t h) {
    for (uint32_t y = 0; y < h; y++) {
        const uint8_t *a = from + 2 * y * stride, *b = a + stride;
        uint8_t *row = to + y * w;
        for (uint32_t x = 0; x < w; x++)
            row[x] = (uint8_t)((a[2 * x] + a[2 * x + 1] + b[2 * x] + b[2 * x + 1] + 2) >> 2);
    }
}

CUBECAST_EXPORT int32_t process_batch(int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        cubecast_frame *frame = &cubecast.in[i];
        uint16_t t = frame->track;
        if (t < CUBECAST_TRACKS && video[t]) {
            uint32_t w = width[t], h = height[t], cw = (w + 1) / 2, ch = (h + 1) / 2;
            uint32_t small_w = w / 4 * 2, small_h = h / 4 * 2;
            if (frame->size < w * h + 2 * cw * ch) return -2;
            const uint8_t *u = cubecast_payload(frame) + w * h, *v = u + cw * ch;
            uint8_t *to = cubecast_payload(frame);
            halve(to, w, to, small_w, small_h); /* rows are read at least as far ahead as they are written */
            halve(u, cw, to + small_w * small_h, small_w / 2, small_h / 2);
            halve(v, cw, to + small_w * small_h * 5 / 4, small_w / 2, small_h / 2);
            frame->size = small_w * small_h * 3 / 2;
        }
        cubecast_emit(frame);
    }
    return cubecast_done();
}

/* Silence and motion trigger. Adds a track of kind data and codec "trigger"; its frames are the lines "silence", "sound",
 * "motion" and "rest". Silence: the mean square of a frame of sound below silence_db of full scale. Motion: the mean
 * difference of the luma to the picture before, on every eighth sample and line, above `motion`. A state is reported when it
 * has lasted hold_ms. */
#define CUBECAST_FRAMES 16
#define CUBECAST_BYTES (16 << 20)
#include "cubecast.h"

#define GRID 8
#define POINTS_MAX (1 << 17)

typedef struct {
    int told, now; /* -1 is unknown */
    int64_t since_us;
} state;

static int32_t sound = -1, picture = -1;
static uint16_t out_track;
static double quiet, motion;
static int64_t hold_us;
static state silent = {-1, -1, 0}, moving = {-1, -1, 0};
static uint8_t before[POINTS_MAX];
static int seen;

static const char *const words[] = {"sound\n", "silence\n", "rest\n", "motion\n"};

CUBECAST_EXPORT int32_t init(int32_t bytes) {
    double db = cubecast_number(bytes, "silence_db", -50), hold_ms = cubecast_number(bytes, "hold_ms", 500);
    motion = cubecast_number(bytes, "motion", 2);
    if (!(db >= -96 && db <= 0) || !(motion > 0 && motion <= 255) || !(hold_ms >= 0 && hold_ms <= 60000)) return -1;
    hold_us = (int64_t)(hold_ms * 1000);
    quiet = cubecast_from_db(db) * cubecast_from_db(db);
    uint32_t count = cubecast.layout.track_count;
    if (count >= CUBECAST_TRACKS) return -1;
    for (uint32_t n = 0; n < count; n++) {
        if (sound < 0 && cubecast.track[n].kind == CUBECAST_AUDIO) sound = (int32_t)n;
        if (picture < 0 && cubecast.track[n].kind == CUBECAST_VIDEO) picture = (int32_t)n;
    }
    out_track = (uint16_t)count;
    cubecast.track[count] = (cubecast_track){.kind = CUBECAST_DATA};
    cubecast_set_codec(&cubecast.track[count], "trigger");
    cubecast.layout.track_count = count + 1;
    return 0;
}

static void look(state *of, int now, int word, int64_t at_us) {
    if (now != of->now) of->now = now, of->since_us = at_us;
    if (of->told == now || at_us - of->since_us < hold_us) return;
    of->told = now;
    const char *said = words[word + now];
    cubecast_frame frame = {0};
    frame.pts_us = frame.dts_us = at_us;
    frame.data = cubecast_offset(said);
    for (frame.size = 0; said[frame.size];) frame.size++;
    frame.track = out_track;
    frame.flags = CUBECAST_KEYFRAME;
    cubecast_emit(&frame);
}

static void hear(const cubecast_frame *frame) {
    const int16_t *sample = (const int16_t *)cubecast_payload(frame);
    uint32_t count = frame->size / 2;
    double sum = 0;
    for (uint32_t k = 0; k < count; k++) sum += (double)sample[k] * sample[k];
    if (count) look(&silent, sum / count < quiet * 32768.0 * 32768.0, 0, frame->pts_us);
}

static void see(const cubecast_frame *frame) {
    const cubecast_track *track = &cubecast.track[frame->track];
    const uint8_t *luma = cubecast_payload(frame);
    uint32_t points = 0, total = 0;
    if (frame->size < track->width * track->height) return;
    for (uint32_t y = 0; y < track->height; y += GRID)
        for (uint32_t x = 0; x < track->width && points < POINTS_MAX; x += GRID, points++) {
            int32_t now = luma[y * track->width + x], apart = now - before[points];
            total += (uint32_t)(apart < 0 ? -apart : apart);
            before[points] = (uint8_t)now;
        }
    if (seen && points) look(&moving, (double)total / points > motion, 2, frame->pts_us);
    seen = 1;
}

CUBECAST_EXPORT int32_t process_batch(int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        const cubecast_frame *frame = &cubecast.in[i];
        if (frame->track == sound) hear(frame);
        else if (frame->track == picture) see(frame);
    }
    return cubecast_done();
}

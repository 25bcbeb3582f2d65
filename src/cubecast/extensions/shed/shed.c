/* Frame-drop on congestion. The event's value is the share of the stream's rate that can be sent, 1 for all.
 *
 * A delta frame refers to those before it, so once one is dropped the rest of its group of pictures goes too; the next
 * keyframe goes on. Below a tenth only keyframes pass. Sound always passes: it is small, and what is missed most.
 */
#include "cubecast.h"

static double allowed = 1;
static uint8_t video[CUBECAST_TRACKS], ended[CUBECAST_TRACKS];
static double came[CUBECAST_TRACKS], kept[CUBECAST_TRACKS];

CUBECAST_EXPORT int32_t init(int32_t bytes) {
    (void)bytes;
    for (uint32_t n = 0; n < cubecast.layout.track_count; n++) video[n] = cubecast.track[n].kind == CUBECAST_VIDEO;
    return 0;
}

CUBECAST_EXPORT int32_t process_batch(int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        const cubecast_frame *frame = &cubecast.in[i];
        uint16_t t = frame->track;
        if (t < CUBECAST_TRACKS && video[t]) {
            came[t] += frame->size;
            if (frame->flags & CUBECAST_KEYFRAME) {
                ended[t] = 0;
            } else if (ended[t] || allowed < 0.1 || (allowed < 1 && kept[t] + frame->size > came[t] * allowed)) {
                ended[t] = 1;
                continue;
            }
            kept[t] += frame->size;
        }
        cubecast_emit(frame);
    }
    return cubecast_done();
}

CUBECAST_EXPORT int32_t on_event(int32_t kind, int64_t time_us, double value) {
    (void)time_us;
    if (kind == CUBECAST_CONGESTION) {
        allowed = value;
        for (int t = 0; t < CUBECAST_TRACKS; t++) came[t] = kept[t] = 0; /* what was is no debt */
    }
    return cubecast_done();
}

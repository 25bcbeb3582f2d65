/* Gain for 16-bit PCM, in decibels; samples are clipped, not wrapped. Works in place. */
#include "cubecast.h"

static int32_t factor; /* 16.16 */
static uint8_t audio[CUBECAST_TRACKS];

CUBECAST_EXPORT int32_t init(int32_t bytes) {
    double db = cubecast_number(bytes, "db", 0);
    if (!(db >= -96 && db <= 24)) return -1;
    factor = (int32_t)(cubecast_from_db(db) * 65536 + 0.5);
    for (uint32_t n = 0; n < cubecast.layout.track_count; n++) audio[n] = cubecast.track[n].kind == CUBECAST_AUDIO;
    return 0;
}

CUBECAST_EXPORT int32_t process_batch(int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        const cubecast_frame *frame = &cubecast.in[i];
        if (frame->track < CUBECAST_TRACKS && audio[frame->track]) {
            int16_t *restrict sample = (int16_t *)cubecast_payload(frame);
            uint32_t count = frame->size / 2;
            for (uint32_t k = 0; k < count; k++) {
                int64_t louder = ((int64_t)sample[k] * factor + 32768) >> 16;
                sample[k] = (int16_t)(louder > 32767 ? 32767 : louder < -32768 ? -32768 : louder);
            }
        }
        cubecast_emit(frame);
    }
    return cubecast_done();
}

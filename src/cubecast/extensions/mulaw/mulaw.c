/* Transcodes 16-bit PCM to mu-law (ITU-T G.711). The track's codec becomes pcm_mulaw, so the host sends it as it is. */
#include "cubecast.h"

static uint8_t audio[CUBECAST_TRACKS];

CUBECAST_EXPORT int32_t init(int32_t bytes) {
    (void)bytes;
    for (uint32_t n = 0; n < cubecast.layout.track_count; n++)
        if (cubecast.track[n].kind == CUBECAST_AUDIO) {
            audio[n] = 1;
            cubecast_set_codec(&cubecast.track[n], "pcm_mulaw");
        }
    return 0;
}

static uint8_t mulaw(int32_t sample) {
    int32_t sign = sample < 0 ? 0x80 : 0;
    int32_t size = sign ? -sample : sample;
    if (size > 32635) size = 32635;
    size += 132;
    int32_t segment = 24 - __builtin_clz((uint32_t)size);
    return (uint8_t)~(sign | segment << 4 | (size >> (segment + 3) & 15));
}

CUBECAST_EXPORT int32_t process_batch(int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        cubecast_frame *frame = &cubecast.in[i];
        if (frame->track < CUBECAST_TRACKS && audio[frame->track]) {
            const int16_t *from = (const int16_t *)cubecast_payload(frame);
            uint8_t *to = cubecast_payload(frame); /* in place: a sample is read before its half is written */
            uint32_t count = frame->size / 2;
            for (uint32_t k = 0; k < count; k++) to[k] = mulaw(from[k]);
            frame->size = count;
        }
        cubecast_emit(frame);
    }
    return cubecast_done();
}

/* Mixes sound tracks into the first. Samples meet by their time; each track's are added to a line of up to LINE samples,
 * and what every track has passed goes out. A track that is silent for longer than LINE/2 is not waited for. */
#include "cubecast.h"

#define LINE (1 << 16) /* samples of one channel, a power of two */
#define CHANNELS_MAX 2
#define BLOCK 1024

static int32_t line[LINE * CHANNELS_MAX];
static int16_t block[CUBECAST_OUT][BLOCK * CHANNELS_MAX];
static int32_t mixed = -1;              /* the track that is emitted */
static uint32_t rate, channels, tracks;
static uint8_t mixing[CUBECAST_TRACKS];
static int64_t reached[CUBECAST_TRACKS]; /* samples since 0 that a track has given */
static int64_t out_at, begun;

CUBECAST_EXPORT int32_t init(int32_t bytes) {
    (void)bytes;
    tracks = 0;
    for (uint32_t n = 0; n < cubecast.layout.track_count; n++) {
        cubecast_track *track = &cubecast.track[n];
        if (track->kind != CUBECAST_AUDIO) continue;
        if (mixed < 0) {
            mixed = (int32_t)n;
            rate = track->sample_rate;
            channels = track->channels;
        }
        if (track->sample_rate == rate && track->channels == channels) {
            mixing[n] = 1;
            tracks++;
        }
    }
    return mixed >= 0 && rate && channels >= 1 && channels <= CHANNELS_MAX ? 0 : -1;
}

static int64_t samples_of(int64_t us) { return (us * rate + 500000) / 1000000; }

/* Everything all tracks have passed, in blocks. */
static void flush(void) {
    int64_t furthest = 0, ready = INT64_MAX;
    for (int t = 0; t < CUBECAST_TRACKS; t++)
        if (mixing[t] && reached[t] > furthest) furthest = reached[t];
    for (int t = 0; t < CUBECAST_TRACKS; t++)
        if (mixing[t] && reached[t] < ready && reached[t] > furthest - LINE / 2) ready = reached[t];
    while (ready - out_at >= BLOCK && cubecast.emitted < CUBECAST_OUT) {
        int16_t *to = block[cubecast.emitted];
        for (uint32_t k = 0; k < BLOCK * channels; k++) {
            uint32_t at = (uint32_t)((out_at * channels + k) & (LINE * channels - 1));
            int32_t sum = line[at];
            to[k] = (int16_t)(sum > 32767 ? 32767 : sum < -32768 ? -32768 : sum);
            line[at] = 0;
        }
        cubecast_frame frame = {0};
        frame.pts_us = frame.dts_us = out_at * 1000000 / rate;
        frame.duration_us = BLOCK * 1000000u / rate;
        frame.data = cubecast_offset(to);
        frame.size = BLOCK * channels * 2;
        frame.track = (uint16_t)mixed;
        frame.flags = CUBECAST_KEYFRAME;
        cubecast_emit(&frame);
        out_at += BLOCK;
    }
}

CUBECAST_EXPORT int32_t process_batch(int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        const cubecast_frame *frame = &cubecast.in[i];
        uint16_t t = frame->track;
        if (t >= CUBECAST_TRACKS || !mixing[t]) {
            if (t >= CUBECAST_TRACKS || cubecast.track[t].kind != CUBECAST_AUDIO) cubecast_emit(frame);
            continue;
        }
        int64_t at = samples_of(frame->pts_us), count = frame->size / 2 / channels;
        if (!begun) begun = 1, out_at = at;
        const int16_t *from = (const int16_t *)cubecast_payload(frame);
        for (int64_t k = 0; k < count; k++) {
            if (at + k < out_at || at + k >= out_at + LINE) continue; /* too late, or far ahead of all others */
            for (uint32_t c = 0; c < channels; c++)
                line[((at + k) * channels + c) & (LINE * channels - 1)] += from[k * channels + c];
        }
        if (at + count > reached[t]) reached[t] = at + count;
        flush();
    }
    return cubecast_done();
}

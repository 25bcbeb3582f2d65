/* cubecast extension interface 1, for authors in C. docs/abi.md describes it; `cubecast extension new`
 * creates an extension.
 *
 * Include this file in one source file. It defines the buffers and exports cubecast_layout; you write init and
 * process_batch, and on_event if your manifest names events:
 *
 *     #include "cubecast.h"
 *     CUBECAST_EXPORT int32_t init(int32_t bytes) { return 0; }
 *     CUBECAST_EXPORT int32_t process_batch(int32_t n) {
 *         for (int32_t i = 0; i < n; i++) cubecast_emit(&cubecast.in[i]);
 *         return cubecast_done();
 *     }
 *
 * For larger buffers define CUBECAST_FRAMES (frames per call, 64) or CUBECAST_BYTES (bytes per call, 1 MiB) before including
 * it. The same source builds for WebAssembly and, for trusted code, as a shared library.
 */
#ifndef CUBECAST_H
#define CUBECAST_H

#include <stddef.h>
#include <stdint.h>

#ifndef CUBECAST_FRAMES
#define CUBECAST_FRAMES 64
#endif
#ifndef CUBECAST_BYTES
#define CUBECAST_BYTES (1 << 20)
#endif
#define CUBECAST_OUT (2 * CUBECAST_FRAMES)
#define CUBECAST_TRACKS 16
#define CUBECAST_HELPER __attribute__((unused)) static inline

#ifdef __wasm__
#define CUBECAST_EXPORT __attribute__((visibility("default"), used))
#define CUBECAST_ORIGIN ((uintptr_t)0)
#else
#define CUBECAST_EXPORT __attribute__((visibility("default")))
#define CUBECAST_ORIGIN ((uintptr_t)&cubecast)
#endif

enum { CUBECAST_VIDEO = 0, CUBECAST_AUDIO = 1, CUBECAST_DATA = 2 };
enum { CUBECAST_KEYFRAME = 1 };
enum {
    CUBECAST_TIMER = 1,
    CUBECAST_SUBSCRIBER_JOINED = 2,
    CUBECAST_SUBSCRIBER_LEFT = 3,
    CUBECAST_LINK_COST_CHANGED = 4,
    CUBECAST_BOUND_VIOLATED = 5,
    CUBECAST_CPU_PRESSURE = 6,
    CUBECAST_CONGESTION = 7
};

typedef struct {
    int64_t pts_us, dts_us;
    uint32_t duration_us;
    uint32_t data; /* offset of the payload; cubecast_payload() returns a pointer */
    uint32_t size;
    uint16_t track, flags;
} cubecast_frame;

typedef struct {
    uint32_t kind;
    char codec[16];
    uint32_t width, height;
    float frame_rate;
    uint32_t sample_rate, channels;
} cubecast_track;

typedef struct {
    uint32_t abi, in, in_max, bytes, bytes_max, out, out_max, tracks, tracks_max, track_count;
} cubecast_layout_table;

static struct {
    cubecast_layout_table layout;
    cubecast_track track[CUBECAST_TRACKS];
    cubecast_frame in[CUBECAST_FRAMES];
    cubecast_frame out[CUBECAST_OUT];
    int32_t emitted;
    uint8_t bytes[CUBECAST_BYTES] __attribute__((aligned(16)));
} cubecast __attribute__((aligned(16)));

CUBECAST_HELPER uint32_t cubecast_offset(const void *pointer) {
    return (uint32_t)((uintptr_t)pointer - CUBECAST_ORIGIN);
}

CUBECAST_HELPER uint8_t *cubecast_payload(const cubecast_frame *frame) {
    return (uint8_t *)(CUBECAST_ORIGIN + (uintptr_t)(intptr_t)(int32_t)frame->data);
}

#ifndef __wasm__
CUBECAST_EXPORT const void *cubecast_origin(void) { return &cubecast; } /* the address from which offsets count */
#endif

CUBECAST_EXPORT int32_t cubecast_layout(void) {
    cubecast.layout.abi = 1;
    cubecast.layout.in = cubecast_offset(cubecast.in);
    cubecast.layout.in_max = CUBECAST_FRAMES;
    cubecast.layout.bytes = cubecast_offset(cubecast.bytes);
    cubecast.layout.bytes_max = CUBECAST_BYTES;
    cubecast.layout.out = cubecast_offset(cubecast.out);
    cubecast.layout.out_max = CUBECAST_OUT;
    cubecast.layout.tracks = cubecast_offset(cubecast.track);
    cubecast.layout.tracks_max = CUBECAST_TRACKS;
    return (int32_t)cubecast_offset(&cubecast.layout);
}

/* Adds a frame to the table of frames out; it is dropped if the table is full. */
CUBECAST_HELPER void cubecast_emit(const cubecast_frame *frame) {
    if (cubecast.emitted < CUBECAST_OUT) cubecast.out[cubecast.emitted++] = *frame;
}

/* Result of process_batch and on_event: the number of frames emitted during this call. */
CUBECAST_HELPER int32_t cubecast_done(void) {
    int32_t emitted = cubecast.emitted;
    cubecast.emitted = 0;
    return emitted;
}

/* Value of a setting, a pointer into the byte buffer with its `length`, valid during init; 0 if there is none. */
CUBECAST_HELPER const char *cubecast_setting(int32_t bytes, const char *key, int32_t *length) {
    const char *text = (const char *)cubecast.bytes;
    for (int32_t at = 0; at < bytes;) {
        int32_t k = 0;
        while (key[k] && at + k < bytes && text[at + k] == key[k]) k++;
        int32_t end = at;
        while (end < bytes && text[end] != '\n') end++;
        if (!key[k] && at + k < end && text[at + k] == '=') {
            *length = end - (at + k + 1);
            return text + at + k + 1;
        }
        at = end + 1;
    }
    return 0;
}

/* Value of a setting as a decimal number; `otherwise` if there is none, NAN if it is not a number. */
CUBECAST_HELPER double cubecast_number(int32_t bytes, const char *key, double otherwise) {
    int32_t length = 0, at = 0, digits = 0;
    const char *text = cubecast_setting(bytes, key, &length);
    double value = 0, scale = 1, sign = 1;
    if (!text) return otherwise;
    if (length > 0 && text[0] == '-') sign = -1, at = 1;
    for (; at < length && text[at] >= '0' && text[at] <= '9'; at++, digits++) value = value * 10 + (text[at] - '0');
    if (at < length && text[at] == '.')
        for (at++; at < length && text[at] >= '0' && text[at] <= '9'; at++, digits++)
            value += (text[at] - '0') * (scale /= 10);
    return at == length && digits ? sign * value : __builtin_nan("");
}

/* Converts decibels to an amplitude factor; decibels are rounded to tenths. */
CUBECAST_HELPER double cubecast_from_db(double db) {
    double factor = 1, step = db < 0 ? 1 / 1.0115794542598986 : 1.0115794542598986; /* 0.1 dB */
    for (uint32_t tenths = (uint32_t)((db < 0 ? -db : db) * 10 + 0.5); tenths; tenths >>= 1, step *= step)
        if (tenths & 1) factor *= step;
    return factor;
}

/* Whether the track has this codec. */
CUBECAST_HELPER int cubecast_is(const cubecast_track *track, const char *codec) {
    int32_t k = 0;
    while (k < 16 && codec[k] && track->codec[k] == codec[k]) k++;
    return k < 16 && !codec[k] && !track->codec[k];
}

CUBECAST_HELPER void cubecast_set_codec(cubecast_track *track, const char *codec) {
    for (int32_t k = 0; k < 16; k++) track->codec[k] = *codec ? *codec++ : 0;
}

/* A freestanding build has no C library, and the compiler generates calls of these; with bulk memory each is one
 * instruction. */
#ifdef __wasm__
#define CUBECAST_FREESTANDING __attribute__((used, no_builtin))
CUBECAST_FREESTANDING void *memcpy(void *to, const void *from, size_t n) {
    for (size_t i = 0; i < n; i++) ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    return to;
}
CUBECAST_FREESTANDING void *memset(void *to, int value, size_t n) {
    for (size_t i = 0; i < n; i++) ((uint8_t *)to)[i] = (uint8_t)value;
    return to;
}
#endif

#endif

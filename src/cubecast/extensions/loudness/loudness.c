/* Loudness meter: ITU-R BS.1770-5's K-weighting, mean square over 400 ms, ten times a second (EBU Tech 3341, momentary).
 *
 * Adds a track of kind data and codec "loudness": each frame is a line of text, loudness in hundredths of LUFS, such as
 * "-2314\n". It is a tap: the stream itself passes by. The filters are BS.1770's analogue ones by the bilinear transform, so
 * they fit any sample rate.
 */
#include "cubecast.h"

#define CHANNELS_MAX 2
#define STEPS 4 /* of 100 ms make up 400 ms */

static int32_t meter = -1, out_track;
static uint32_t rate, channels, step_samples, in_step, steps;
static double energy[STEPS], sum;
static char line[CUBECAST_OUT][16];

typedef struct {
    double b0, b1, b2, a1, a2;
} biquad;
static biquad shelf, high_pass;
static double past[CHANNELS_MAX][2][2];

static const double PI = 3.14159265358979323846;

static double tangent(double x) { /* for x < pi/4: of the quotient of the series of sine and cosine */
    double s = 0, c = 0, term = 1;
    for (int k = 0; k < 20; k++) {
        if (k % 2 == 0) c += k % 4 ? -term : term;
        else s += k % 4 == 1 ? term : -term;
        term *= x / (k + 1);
    }
    return s / c;
}

/* log2 of a positive number: its exponent, and the series of 2 artanh of its mantissa. */
static double log_2(double x) {
    union {
        double number;
        uint64_t bits;
    } parts = {x};
    int exponent = (int)(parts.bits >> 52 & 2047) - 1023;
    parts.bits = (parts.bits & 0xFFFFFFFFFFFFFull) | 0x3FF0000000000000ull;
    double z = (parts.number - 1) / (parts.number + 1), z2 = z * z, power = z, total = 0;
    for (int k = 1; k < 40; k += 2, power *= z2) total += power / k;
    return exponent + 2 * total / 0.69314718055994530942;
}

static void prepare(void) {
    double k = tangent(PI * 1681.974450955533 / rate), q = 0.7071752369554196;
    double high = 1.5848647011308556, middle = 1.2587209302325581; /* 3.999843853973347 dB, and that to the 0.4996667741545416 */
    double a0 = 1 + k / q + k * k;
    shelf.b0 = (high + middle * k / q + k * k) / a0;
    shelf.b1 = 2 * (k * k - high) / a0;
    shelf.b2 = (high - middle * k / q + k * k) / a0;
    shelf.a1 = 2 * (k * k - 1) / a0;
    shelf.a2 = (1 - k / q + k * k) / a0;
    k = tangent(PI * 38.13547087602444 / rate), q = 0.5003270373238773;
    a0 = 1 + k / q + k * k;
    high_pass.b0 = 1, high_pass.b1 = -2, high_pass.b2 = 1;
    high_pass.a1 = 2 * (k * k - 1) / a0;
    high_pass.a2 = (1 - k / q + k * k) / a0;
}

static double filter(const biquad *f, double *z, double x) { /* transposed direct form II */
    double y = f->b0 * x + z[0];
    z[0] = f->b1 * x - f->a1 * y + z[1];
    z[1] = f->b2 * x - f->a2 * y;
    return y;
}

CUBECAST_EXPORT int32_t init(int32_t bytes) {
    (void)bytes;
    uint32_t count = cubecast.layout.track_count;
    for (uint32_t n = 0; n < count && meter < 0; n++)
        if (cubecast.track[n].kind == CUBECAST_AUDIO) meter = (int32_t)n;
    if (meter < 0 || count >= CUBECAST_TRACKS) return -1;
    rate = cubecast.track[meter].sample_rate;
    channels = cubecast.track[meter].channels;
    if (rate < 8000 || rate > 192000 || channels < 1 || channels > CHANNELS_MAX) return -1;
    step_samples = rate / 10;
    prepare();
    out_track = (int32_t)count;
    cubecast.track[count] = (cubecast_track){.kind = CUBECAST_DATA};
    cubecast_set_codec(&cubecast.track[count], "loudness");
    cubecast.layout.track_count = count + 1;
    return 0;
}

static void tell(int64_t at_us) {
    double total = 0;
    for (int k = 0; k < STEPS; k++) total += energy[k];
    double mean = total / (STEPS * (double)step_samples);
    double lufs = mean > 1e-10 ? -0.691 + 10 * log_2(mean) / 3.32192809488736234787 : -100;
    int32_t hundredths = (int32_t)(lufs * 100 + (lufs < 0 ? -0.5 : 0.5)), size = 0;
    if (cubecast.emitted >= CUBECAST_OUT) return;
    char *to = line[cubecast.emitted], digits[12];
    uint32_t rest = (uint32_t)(hundredths < 0 ? -hundredths : hundredths), count = 0;
    if (hundredths < 0) to[size++] = '-';
    do digits[count++] = (char)('0' + rest % 10);
    while (rest /= 10);
    while (count) to[size++] = digits[--count];
    to[size++] = '\n';
    cubecast_frame frame = {0};
    frame.pts_us = frame.dts_us = at_us;
    frame.duration_us = 100000;
    frame.data = cubecast_offset(to);
    frame.size = (uint32_t)size;
    frame.track = (uint16_t)out_track;
    frame.flags = CUBECAST_KEYFRAME;
    cubecast_emit(&frame);
}

CUBECAST_EXPORT int32_t process_batch(int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        const cubecast_frame *frame = &cubecast.in[i];
        if (frame->track != meter) continue;
        const int16_t *sample = (const int16_t *)cubecast_payload(frame);
        uint32_t count = frame->size / 2 / channels;
        for (uint32_t k = 0; k < count; k++) {
            for (uint32_t c = 0; c < channels; c++) {
                double x = sample[k * channels + c] / 32768.0;
                double y = filter(&high_pass, past[c][1], filter(&shelf, past[c][0], x));
                sum += y * y;
            }
            if (++in_step == step_samples) {
                energy[steps++ % STEPS] = sum;
                sum = 0, in_step = 0;
                if (steps >= STEPS) tell(frame->pts_us + (int64_t)(k + 1) * 1000000 / rate);
            }
        }
    }
    return cubecast_done();
}

/* Thins H.264 to a share of its bytes so that what is left decodes without an error.
 *
 * Pictures that no other refers to (nal_ref_idc 0, ITU-T H.264 7.4.1) may go at any time. Where that is not enough, all
 * pictures from some point on to the end of a group of pictures go, for only those refer to them; with an open group
 * the leading pictures of the next, shown before its keyframe, go too. Times of what stays do not change.
 */
#include "cubecast.h"

static double share;
static uint8_t h264[CUBECAST_TRACKS];
static uint8_t ended[CUBECAST_TRACKS];   /* the rest of this group of pictures goes */
static uint8_t cut[CUBECAST_TRACKS];     /* the group before was cut, so leading pictures lack what they refer to */
static int64_t shown_us[CUBECAST_TRACKS]; /* when the last keyframe is shown */
static double came[CUBECAST_TRACKS], kept[CUBECAST_TRACKS]; /* bytes, of all groups before this one */
static double group_came[CUBECAST_TRACKS], group_kept[CUBECAST_TRACKS], last_group[CUBECAST_TRACKS];
static int64_t begun_us[CUBECAST_TRACKS];

#define FIRST_GROUP_US 4000000.0 /* nobody knows how long the first group will be */

CUBECAST_EXPORT int32_t init(int32_t bytes) {
    share = cubecast_number(bytes, "share", 0.5);
    if (!(share > 0 && share <= 1)) return -1;
    for (uint32_t n = 0; n < cubecast.layout.track_count; n++)
        h264[n] = cubecast.track[n].kind == CUBECAST_VIDEO && cubecast_is(&cubecast.track[n], "h264");
    return 0;
}

/* Whether no other picture refers to one: all its slices say so. Units are preceded by a length of four bytes (avcC) or
 * by a start code (Annex B). */
static int unreferred(const uint8_t *at, uint32_t size) {
    int slices = 0;
    if (size > 4 && at[0] == 0 && at[1] == 0 && (at[2] == 1 || (at[2] == 0 && at[3] == 1))) {
        for (uint32_t i = 0; i + 3 < size; i++)
            if (at[i] == 0 && at[i + 1] == 0 && at[i + 2] == 1) {
                uint8_t unit = at[i + 3] & 31;
                if (unit >= 1 && unit <= 5) {
                    if (at[i + 3] & 0x60) return 0;
                    slices++;
                }
                i += 3;
            }
        return slices > 0;
    }
    for (uint32_t i = 0; i + 4 < size;) {
        uint32_t length = (uint32_t)at[i] << 24 | (uint32_t)at[i + 1] << 16 | (uint32_t)at[i + 2] << 8 | at[i + 3];
        uint8_t unit = at[i + 4] & 31;
        if (!length || length > size - i - 4) return 0;
        if (unit >= 1 && unit <= 5) {
            if (at[i + 4] & 0x60) return 0;
            slices++;
        }
        i += 4 + length;
    }
    return slices > 0;
}

static void begin_group(const cubecast_frame *frame) {
    uint16_t t = frame->track;
    came[t] += group_came[t];
    kept[t] += group_kept[t];
    if (group_came[t] > 0) last_group[t] = group_came[t];
    group_came[t] = group_kept[t] = 0;
    begun_us[t] = frame->dts_us;
    cut[t] = ended[t];
    ended[t] = 0;
    shown_us[t] = frame->pts_us;
}

/* Bytes this group may have: it is taken to be as large as the one before. */
static double budget(const cubecast_frame *frame) {
    uint16_t t = frame->track;
    double gone_us = (double)(frame->dts_us - begun_us[t]) + 1, whole = last_group[t];
    if (whole == 0) whole = group_came[t] * (gone_us < FIRST_GROUP_US ? FIRST_GROUP_US / gone_us : 1);
    return share * (came[t] + whole) - kept[t];
}

static int stays(const cubecast_frame *frame) {
    uint16_t t = frame->track;
    if (frame->flags & CUBECAST_KEYFRAME) begin_group(frame);
    group_came[t] += frame->size;
    if (frame->flags & CUBECAST_KEYFRAME) return 1;
    if (ended[t] || (cut[t] && frame->pts_us < shown_us[t])) return 0;
    if (kept[t] + group_kept[t] + frame->size <= (came[t] + group_came[t]) * share) return 1;
    if (unreferred(cubecast_payload(frame), frame->size)) return 0;
    if (group_kept[t] + frame->size <= budget(frame)) return 1;
    ended[t] = 1;
    return 0;
}

CUBECAST_EXPORT int32_t process_batch(int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        const cubecast_frame *frame = &cubecast.in[i];
        uint16_t t = frame->track;
        if (t < CUBECAST_TRACKS && h264[t]) {
            if (!stays(frame)) continue;
            group_kept[t] += frame->size;
        }
        cubecast_emit(frame);
    }
    return cubecast_done();
}

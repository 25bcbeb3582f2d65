// cubecast extension interface 1, for authors in AssemblyScript. docs/abi.md describes it; `cubecast extension new`
// creates an extension with this file beside it:
//
//     import { frame, emit, done } from "./cubecast";
//     export { cubecast_layout } from "./cubecast";
//     export function init(bytes: i32): i32 { return 0; }
//     export function process_batch(n: i32): i32 {
//       for (let i = 0; i < n; i++) emit(frame(i));
//       return done();
//     }
//
// It allocates no memory: frames and tracks are views of the tables that the host writes and reads.

export const VIDEO: u32 = 0;
export const AUDIO: u32 = 1;
export const DATA: u32 = 2;
export const KEYFRAME: u16 = 1;

export const TIMER: i32 = 1;
export const SUBSCRIBER_JOINED: i32 = 2;
export const SUBSCRIBER_LEFT: i32 = 3;
export const LINK_COST_CHANGED: i32 = 4;
export const BOUND_VIOLATED: i32 = 5;
export const CPU_PRESSURE: i32 = 6;
export const CONGESTION: i32 = 7;

// Sizes of the tables: frames in, bytes of input, frames out, tracks.
export const FRAMES: i32 = 64;
export const BYTES: i32 = 1 << 20;
export const OUT: i32 = 2 * FRAMES;
export const TRACKS: i32 = 16;

const FRAME_BYTES: i32 = 32;
const TRACK_BYTES: i32 = 40;
const CODEC_BYTES: i32 = 16;

// Row of a table of frames; `data` is the offset of the payload, for load and store.
@unmanaged
export class Frame {
  pts_us: i64;
  dts_us: i64;
  duration_us: u32;
  data: u32;
  size: u32;
  track: u16;
  flags: u16;
}

// Row of the track table. Use is and setCodec to compare and set the codec.
@unmanaged
export class Track {
  kind: u32;
  private codec0: u32;
  private codec1: u32;
  private codec2: u32;
  private codec3: u32;
  width: u32;
  height: u32;
  frame_rate: f32;
  sample_rate: u32;
  channels: u32;
}

const framesIn: usize = memory.data(FRAMES * FRAME_BYTES, 16);
const framesOut: usize = memory.data(OUT * FRAME_BYTES, 16);
const tracks: usize = memory.data(TRACKS * TRACK_BYTES, 16);
const bytes: usize = memory.data(BYTES, 16);
const layout: usize = memory.data(40, 16);
let emitted: i32 = 0;

// Returns the offset of the layout table to the host; export it.
export function cubecast_layout(): i32 {
  store<i32>(layout, 1);
  store<i32>(layout, <i32>framesIn, 4);
  store<i32>(layout, FRAMES, 8);
  store<i32>(layout, <i32>bytes, 12);
  store<i32>(layout, BYTES, 16);
  store<i32>(layout, <i32>framesOut, 20);
  store<i32>(layout, OUT, 24);
  store<i32>(layout, <i32>tracks, 28);
  store<i32>(layout, TRACKS, 32);
  return <i32>layout;
}

// Frame i of the n frames of process_batch.
export function frame(i: i32): Frame {
  return changetype<Frame>(framesIn + <usize>(i * FRAME_BYTES));
}

// The number of tracks, and track i; init may change both.
export function trackCount(): i32 {
  return load<i32>(layout, 36);
}
export function setTrackCount(count: i32): void {
  store<i32>(layout, count, 36);
}
export function track(i: i32): Track {
  return changetype<Track>(tracks + <usize>(i * TRACK_BYTES));
}

// Compares and sets the codec of a track; names have up to 16 letters.
export function is(t: Track, codec: string): bool {
  const at = changetype<usize>(t) + 4;
  for (let k = 0; k < CODEC_BYTES; k++) {
    const wanted: i32 = k < codec.length ? codec.charCodeAt(k) : 0;
    if (<i32>load<u8>(at + <usize>k) != wanted) return false;
  }
  return true;
}
export function setCodec(t: Track, codec: string): void {
  const at = changetype<usize>(t) + 4;
  for (let k = 0; k < CODEC_BYTES; k++) store<u8>(at + <usize>k, k < codec.length ? codec.charCodeAt(k) : 0);
}

// Adds a frame to the table of frames out; it is dropped if the table is full.
export function emit(f: Frame): void {
  if (emitted >= OUT) return;
  memory.copy(framesOut + <usize>(emitted * FRAME_BYTES), changetype<usize>(f), FRAME_BYTES);
  emitted++;
}

// Result of process_batch and on_event: the number of frames emitted during this call.
export function done(): i32 {
  const count = emitted;
  emitted = 0;
  return count;
}

// Value of a setting as a decimal number, valid during init; `otherwise` if there is none, NaN if it is not a number.
export function number(count: i32, key: string, otherwise: f64): f64 {
  let at = 0;
  while (at < count) {
    let end = at;
    while (end < count && load<u8>(bytes + <usize>end) != 10) end++;
    let k = 0;
    while (k < key.length && at + k < end && <i32>load<u8>(bytes + <usize>(at + k)) == key.charCodeAt(k)) k++;
    if (k == key.length && at + k < end && load<u8>(bytes + <usize>(at + k)) == 61) return parse(at + k + 1, end);
    at = end + 1;
  }
  return otherwise;
}

function parse(from: i32, end: i32): f64 {
  let at = from, digits = 0, sign: f64 = 1, value: f64 = 0, scale: f64 = 0;
  if (at < end && load<u8>(bytes + <usize>at) == 45) { sign = -1; at++; }
  for (; at < end; at++) {
    const c = <i32>load<u8>(bytes + <usize>at);
    if (c == 46 && scale == 0) scale = 1;
    else if (c >= 48 && c <= 57) {
      digits++;
      value = value * 10 + <f64>(c - 48);
      scale *= 10;
    } else return NaN;
  }
  return digits ? sign * value / (scale > 0 ? scale : 1) : NaN;
}

// What the frames' entries come to, in arrays that can be scanned fast: for the timeline, and for jumping about.

export const ANNOTATED = 1;
export const PERMANENT = 2;
export const FOLLOWED = 4;

export class FrameIndex {
  constructor(state) {
    this.state = state;
    state.on(["frames", "objects", "video"], (what) => {
      const frames = what.get("frames");
      if (Array.isArray(frames) && !what.has("video")) for (const frame of frames) this.#read(Number(frame));
      else this.#rebuild();
    });
    this.#rebuild();
  }

  #rebuild() {
    const {video, objects, frames} = this.state.now;
    this.count = video.count;
    this.flags = new Uint8Array(this.count);
    this.change = new Float32Array(this.count);
    this.uncertainty = new Float32Array(this.count);
    this.rows = new Map(objects.map(({label}) => [label, newRow(this.count)]));
    for (const frame of Object.keys(frames)) this.#read(Number(frame));
  }

  #read(frame) {
    if (frame < 0 || frame >= this.count) return;
    const entry = this.state.frame(frame);
    const followed = entry && !entry.annotated && entry.map;
    this.flags[frame] =
      (entry?.annotated ? ANNOTATED : 0) | (entry?.permanent ? PERMANENT : 0) | (followed ? FOLLOWED : 0);
    this.change[frame] = followed ? (entry.change ?? -1) : -1;
    this.uncertainty[frame] = followed ? (entry.uncertainty ?? -1) : -1;
    for (const [label, row] of this.rows) {
      // In a followed frame every object is known, be it that it is not to be seen.
      row.defined[frame] = followed || entry?.objects.includes(label) ? 1 : 0;
      row.area[frame] = entry?.areas[label] ?? 0;
    }
  }

  /** The next frame after `from` in the direction (1 or -1) that has one of the flags, or null. */
  next(from, direction, flags) {
    for (let frame = from + direction; frame >= 0 && frame < this.count; frame += direction) {
      if (this.flags[frame] & flags) return frame;
    }
    return null;
  }

  /** Followed frames that have the measure ("change" or "uncertainty"), the greatest first. */
  greatest(measure) {
    const values = this[measure];
    const frames = [];
    for (let frame = 0; frame < this.count; frame++) {
      if (this.flags[frame] & FOLLOWED && values[frame] >= 0) frames.push(frame);
    }
    return frames.sort((a, b) => values[b] - values[a] || a - b);
  }
}

const newRow = (count) => ({defined: new Uint8Array(count), area: new Float32Array(count)});

// Label maps: decoding of the run-length format, and the cache of decoded maps.

import {Loader} from "./loader.js";

const MOST_MAPS = 64;
const MOST_PIXELS = 128e6; // so that 64 maps of a large video do not fill a tablet's memory

export class LabelMap {
  /** `labels` and `lengths` are the runs, row after row. */
  constructor(width, height, labels, lengths) {
    Object.assign(this, {width, height, runLabels: labels, runLengths: lengths});
    this.pixels = null;
  }

  /** One label for each pixel; made on first use, since most looks need only the runs. Not to be written to. */
  get labels() {
    if (!this.pixels) {
      this.pixels = new Uint8Array(this.width * this.height);
      this.paintRuns(this.pixels, null);
    }
    return this.pixels;
  }

  /** Writes `values[label]`, or the label itself, for each pixel. */
  paintRuns(out, values) {
    let start = 0;
    for (let run = 0; run < this.runLabels.length; run++) {
      const end = start + this.runLengths[run];
      const label = this.runLabels[run];
      const value = values ? values[label] : label;
      if (value) out.fill(value, start, end);
      start = end;
    }
  }

  static empty(width, height) {
    return new LabelMap(width, height, Uint8Array.of(0), Uint32Array.of(width * height));
  }
}

/** Reads uint32 width, height and runs (little endian), a label of one byte for each run, and their uint32 lengths. */
export function decodeMap(buffer) {
  const head = new DataView(buffer);
  const [width, height, runs] = [0, 4, 8].map((at) => head.getUint32(at, true));
  const labels = new Uint8Array(buffer, 12, runs);
  // The lengths need not begin at a multiple of four, which a typed array would ask for.
  const lengths = new Uint32Array(runs);
  for (let run = 0; run < runs; run++) lengths[run] = head.getUint32(12 + runs + 4 * run, true);
  return new LabelMap(width, height, labels, lengths);
}

export function mapLoader(arrived) {
  return new Loader({
    decode: async (response) => decodeMap(await response.arrayBuffer()),
    most: 2,
    weigh: (map) => Math.max(map.width * map.height, MOST_PIXELS / MOST_MAPS),
    capacity: MOST_PIXELS,
    arrived,
  });
}

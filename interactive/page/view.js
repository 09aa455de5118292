// What only this window knows: the frame looked at, the tool, the look, the zoom. The server keeps it for the next
// visit.

import {Watched} from "./watched.js";

const SAVE_AFTER = 800; // milliseconds of calm, so that scrubbing does not write a file for each frame

const DEFAULTS = {
  frame: 0,
  label: null, // the current object
  tool: "brush",
  radius: 10, // of brush and eraser, image pixels
  pixels: 2, // by which outlines grow and shrink
  largest: 0, // pixels of holes that are filled and of islands that are dropped; 0 for all
  mode: "overlay",
  opacity: 0.55,
  compare: false, // before/after
  split: 0.5, // where the before/after line stands, as a share of the stage's width
  camera: null, // null fits the frame into the stage; otherwise {scale, x, y}: image point in the middle
  span: null, // frames shown by the timeline, [first, end); null for all
  tab: "objects",
  speed: 1,
  until: "annotated",
};

export class View extends Watched {
  constructor(stored, save) {
    super();
    for (const [key, value] of Object.entries(DEFAULTS)) this[key] = stored?.[key] ?? value;
    this.save = save;
    this.timer = null;
    // The last change before leaving would otherwise be lost in the calm.
    addEventListener("pagehide", () => this.flush(true));
  }

  set(changes) {
    const changed = new Map();
    for (const [key, value] of Object.entries(changes)) {
      if (this[key] === value) continue;
      this[key] = value;
      changed.set(key, true);
    }
    if (!changed.size) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(false), SAVE_AFTER);
    this.tell(changed);
  }

  flush(leaving) {
    if (this.timer === null) return;
    clearTimeout(this.timer);
    this.timer = null;
    this.save(Object.fromEntries(Object.keys(DEFAULTS).map((key) => [key, this[key]])), leaving);
  }
}

// The server's state as the page knows it: taken whole on connecting, then kept up to date by patches.

import {Watched} from "./watched.js";

/** Keys of the state in which a patch replaces single entries rather than the whole. */
const BY_ENTRY = ["frames", "clicks"];

export class State extends Watched {
  /** The values, laid out as the server sends them; null until the first connection. */
  now = null;

  replace(state) {
    this.now = state;
    this.tell(new Map(Object.keys(state).map((key) => [key, true])));
  }

  /**
   * A patch marked `whole` has everything but the view, as after an undo. Listeners get, for `frames` and `clicks`, the
   * array of entries that changed; for all other keys, and for a whole patch, true.
   */
  patch({whole, ...patch}) {
    if (!this.now) return;
    if (whole) return this.replace({...this.now, ...patch});
    const changed = new Map();
    for (const [key, value] of Object.entries(patch)) {
      if (BY_ENTRY.includes(key)) {
        for (const [name, entry] of Object.entries(value)) {
          if (entry === null) delete this.now[key][name];
          else this.now[key][name] = entry;
        }
        changed.set(key, Object.keys(value));
      } else {
        this.now[key] = value;
        changed.set(key, true);
      }
    }
    this.tell(changed);
  }

  frame(number) {
    return this.now.frames[number] ?? null;
  }

  object(label) {
    return this.now.objects.find((object) => object.label === label) ?? null;
  }

  get last() {
    return this.now.video.count - 1;
  }
}

// Values that tell those who listen what has changed. The server's state and the page's own view are both of this kind.

export class Watched {
  #listeners = [];

  /** Calls `call(changed)` after a change of any of `keys`; `changed` is a Map from key to details (or true). */
  on(keys, call) {
    this.#listeners.push({keys, call});
  }

  /** Tells the listeners. One that fails must not keep the others from hearing of it. */
  tell(changed) {
    for (const {keys, call} of this.#listeners) {
      if (!keys.some((key) => changed.has(key))) continue;
      try {
        call(changed);
      } catch (problem) {
        console.error(problem);
      }
    }
  }
}

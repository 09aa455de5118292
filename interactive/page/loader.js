// Fetches things by address, a few at a time, the most wanted first, and keeps the last used up to a bound.

const TRY_AGAIN = 3000; // milliseconds after a failure that may pass

export class Loader {
  /**
   * `decode(response)` makes the value; `weigh(value)` gives its size and `capacity` the sum that is kept; `most`
   * requests run at a time; `arrived(address)` is told of each value; `release(value)` frees one that is dropped.
   */
  constructor({decode, most, weigh = () => 1, capacity, arrived, release = () => {}}) {
    Object.assign(this, {decode, most, weigh, capacity, arrived, release});
    this.values = new Map(); // in order of use, the oldest first
    this.weight = 0;
    this.failures = new Map();
    this.running = new Set();
    this.wanted = [];
  }

  /** The value, or undefined where it has not arrived. */
  get(address) {
    const value = this.values.get(address);
    if (value !== undefined) {
      this.values.delete(address);
      this.values.set(address, value);
    }
    return value;
  }

  has(address) {
    return this.values.has(address);
  }

  /** Why an address gives nothing, in words, or undefined. */
  failure(address) {
    return this.failures.get(address)?.text;
  }

  /**
   * Says what is wanted now, the most urgent first. What was wanted before and has not begun is dropped; what has begun
   * is let finish, since the server has done most of the work, and since scrubbing faster than it can be loaded would
   * otherwise never show anything.
   */
  want(addresses) {
    this.wanted = addresses.filter((address) => !this.values.has(address) && this.#worthTrying(address));
    this.#begin();
  }

  #worthTrying(address) {
    const failure = this.failures.get(address);
    return !failure || (!failure.lasting && Date.now() - failure.time > TRY_AGAIN);
  }

  #begin() {
    while (this.running.size < this.most && this.wanted.length) {
      const address = this.wanted.shift();
      if (!this.running.has(address)) this.#load(address);
    }
  }

  async #load(address) {
    this.running.add(address);
    try {
      const response = await fetch(address);
      if (response.ok) {
        this.#keep(address, await this.decode(response));
        this.failures.delete(address);
      } else {
        this.#fail(address, await said(response), response.status === 410);
      }
    } catch {
      this.#fail(address, "The program does not answer.", false);
    }
    this.running.delete(address);
    this.arrived(address);
    this.#begin();
  }

  #fail(address, text, lasting) {
    this.failures.set(address, {text, lasting, time: Date.now()});
  }

  #keep(address, value) {
    this.values.set(address, value);
    this.weight += this.weigh(value);
    for (const [old, dropped] of this.values) {
      if (this.weight <= this.capacity || old === address) break;
      this.values.delete(old);
      this.weight -= this.weigh(dropped);
      this.release(dropped);
    }
  }
}

async function said(response) {
  const answer = await response.json().catch(() => null);
  return answer?.error ?? `The program answered with status ${response.status}.`;
}

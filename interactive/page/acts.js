// Sends the user's acts to the server: edits one after the other in their order, the rest at once.

import {FORBIDDEN} from "./connection.js";

/** Acts that need not wait for edits before them: stopping must not wait for a slow segmenter. */
const AT_ONCE = new Set(["pause", "store_view"]);

export class Acts {
  /**
   * `notice(level, text)` shows what went wrong; `busy(count)` hears how many acts are on their way; `alive()` says
   * whether there is a connection.
   */
  constructor({notice, busy, alive}) {
    Object.assign(this, {notice, busy, alive});
    this.tail = Promise.resolve();
    this.waiting = 0;
  }

  /** Sends one act. Resolves to the answer, or to null if it was refused or failed, which has then been said. */
  send(act) {
    if (AT_ONCE.has(act.do)) return this.#post(act);
    this.busy(++this.waiting);
    const answer = this.tail.then(() => this.#post(act)).finally(() => this.busy(--this.waiting));
    this.tail = answer;
    return answer;
  }

  /** Stores a label map (the bytes of a PNG file) as the mask of a frame. */
  import(frame, file) {
    this.busy(++this.waiting);
    const answer = this.tail
      .then(() => this.#request(`/api/import?frame=${frame}`, {method: "POST", body: file}, "the import"))
      .finally(() => this.busy(--this.waiting));
    this.tail = answer;
    return answer;
  }

  /** Stores the view. Losing it is no harm, so nothing is said of failures. */
  saveView(view, leaving) {
    if (!this.alive()) return;
    const body = JSON.stringify({do: "store_view", view});
    fetch("/api/acts", {method: "POST", headers: JSON_BODY, body, keepalive: leaving}).catch(() => {});
  }

  #post(act) {
    const options = {method: "POST", headers: JSON_BODY, body: JSON.stringify(act)};
    return this.#request("/api/acts", options, `“${act.do.replaceAll("_", " ")}”`);
  }

  async #request(address, options, what) {
    if (!this.alive()) {
      this.notice("warning", `Not done, as there is no connection: ${what}.`);
      return null;
    }
    let response;
    try {
      response = await fetch(address, options);
    } catch {
      this.notice("warning", `No answer came to ${what}: look whether it was done.`);
      return null;
    }
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    if (response.status === 403) this.notice("error", FORBIDDEN);
    else if (answer.error) this.notice("error", answer.error);
    else this.notice("error", `The program failed at ${what} (status ${response.status}); its terminal says why.`);
    return null;
  }
}

const JSON_BODY = {"Content-Type": "application/json"};

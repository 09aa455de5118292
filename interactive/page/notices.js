// What the program has to say: short notices over the frame, the banner of the connection, and a status line.

import {find, iconButton, make, setText} from "./dom.js";

const STAYS = {info: 6000, warning: 12000, error: Infinity}; // milliseconds; errors stay until they are dismissed
const MOST = 4;

export class Notices {
  constructor() {
    this.list = find("#notices");
    this.banner = find("#connection");
    this.line = find("#say");
  }

  /** `action` is {text, run}, a button within the notice. */
  show(level, text, action = null) {
    const same = [...this.list.children].find((other) => other.dataset.text === text);
    if (same) {
      // The same again is counted rather than piled up.
      same.dataset.times = Number(same.dataset.times) + 1;
      setText(find(".times", same), `×${same.dataset.times}`);
      this.#expire(same, level);
      return;
    }
    const notice = make("div", {className: "notice", data: {level, text, times: 1}});
    notice.setAttribute("role", level === "error" ? "alert" : "status");
    const dismiss = iconButton("close", "Dismiss", () => this.#remove(notice));
    notice.append(make("span", {className: "text", textContent: text}), make("span", {className: "times"}));
    if (action) {
      const run = () => {
        this.#remove(notice);
        action.run();
      };
      notice.append(make("button", {type: "button", className: "small", textContent: action.text, onclick: run}));
    }
    notice.append(dismiss);
    this.list.append(notice);
    const passing = [...this.list.children].filter((other) => other.dataset.level !== "error");
    if (this.list.children.length > MOST && passing.length > 1) this.#remove(passing[0]);
    // Whoever reads it or is about to press its button needs it to stay.
    notice.onmouseenter = () => clearTimeout(notice.timer);
    notice.onmouseleave = () => this.#expire(notice, level);
    this.#expire(notice, level);
  }

  /** A lasting line above everything, or null for none. */
  setBanner(text) {
    this.banner.hidden = !text;
    setText(this.banner, text ?? "");
  }

  /** A passing remark over the frame, such as where a jump has led. */
  say(text) {
    setText(this.line, text);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => setText(this.line, ""), STAYS.info);
  }

  /** Dismisses the newest notice. Says whether there was one. */
  dismissLast() {
    const last = this.list.lastElementChild;
    if (last) this.#remove(last);
    return Boolean(last);
  }

  #expire(notice, level) {
    clearTimeout(notice.timer);
    const stay = STAYS[level] ?? STAYS.warning;
    if (Number.isFinite(stay)) notice.timer = setTimeout(() => this.#remove(notice), stay);
  }

  #remove(notice) {
    clearTimeout(notice.timer);
    notice.remove();
  }
}

// The keyboard: runs commands, draws with a cursor moved by keys, and shows the help sheet.

import {find, make} from "./dom.js";
import {mayRun, textOf} from "./commands.js";

/** Commands that a key held down repeats; the others would flicker. */
const REPEATED = new Set(
  "back forward back-10 forward-10 smaller larger zoom-in zoom-out stronger weaker undo redo".split(" "),
);
const STEP = 10; // screen pixels of the keyboard's cursor; one with Ctrl

/** A key as the table of commands names it: "Ctrl+" for Ctrl or Command, "Shift+" only for keys without a character. */
export function combination(event) {
  const {key} = event;
  const shift = event.shiftKey && key.length > 1 ? "Shift+" : "";
  const control = (event.ctrlKey || event.metaKey) && !event.getModifierState("AltGraph");
  // Caps Lock must not turn one command into another.
  const letter = /^[a-z]$/i.test(key) ? (event.shiftKey ? key.toUpperCase() : key.toLowerCase()) : key;
  return (control ? "Ctrl+" : "") + shift + letter;
}

const NAMES = {
  " ": "Space",
  ArrowLeft: "←",
  ArrowRight: "→",
  PageUp: "Page Up",
  PageDown: "Page Down",
  Escape: "Esc",
  Backspace: "⌫",
};

/** A key as people read it. A capital letter is typed with Shift. */
export function keyText(keys) {
  const [, modifiers, key] = /^((?:Ctrl\+|Shift\+)*)(.+)$/s.exec(keys);
  const capital = /^[A-Z]$/.test(key);
  return modifiers + (capital ? "Shift+" : "") + (NAMES[key] ?? (/^[a-z]$/.test(key) ? key.toUpperCase() : key));
}

const writing = (element) =>
  element.matches("textarea, select, dialog[open] *, input:not([type=range], [type=color], [type=checkbox])");

export class Keys {
  constructor(commands, app) {
    this.app = app;
    this.byKey = new Map();
    for (const command of commands.values()) for (const key of command.keys) this.byKey.set(key, command);
    this.space = {held: false, used: false};
    this.hand = new Hand(app);
    addEventListener("keydown", (event) => this.down(event));
    addEventListener("keyup", (event) => this.up(event));
    addEventListener("blur", () => (this.space.held = false));
    letGoOfControls();
  }

  down(event) {
    const {target} = event;
    if (event.defaultPrevented || event.isComposing) return;
    if (event.key === "Escape" && !target.closest("dialog")) return this.#escape(target);
    // On many keyboards brackets are typed with AltGr, which some systems report as Ctrl and Alt.
    if (writing(target) || (event.altKey && !event.getModifierState("AltGraph"))) return;
    // Keys that the focused control needs stay with it.
    if ((event.key === " " || event.key === "Enter") && target.closest("button, summary, a, input")) return;
    if (/^(Arrow|Home|End|Page)/.test(event.key) && target.closest("input, [role=tab]")) return;
    if (this.hand.key(event)) return event.preventDefault();
    const command = this.byKey.get(combination(event));
    if (!command) return;
    event.preventDefault();
    // A stroke belongs to the object and the frame that it was begun on; undo would take back the step before it.
    if (this.app.tools.active) return this.app.notices.say("Not possible while something is drawn: let go first.");
    if (event.key === " ") {
      // Space also moves the picture; it plays only if it was let go without that.
      if (!event.repeat) this.space = {held: true, used: false};
      return;
    }
    if (event.repeat && !REPEATED.has(command.id)) return;
    const {player, view, notices} = this.app;
    if (event.repeat && command.id === "forward") player.scrub(view.frame + 1);
    else if (event.repeat && command.id === "back") player.scrub(view.frame - 1);
    else if (mayRun(command)) command.run();
    else notices.say(`Not possible now: ${textOf(command).toLowerCase()}.`);
  }

  up(event) {
    if (event.key !== " " || !this.space.held) return;
    this.space.held = false;
    if (!this.space.used) this.byKey.get(" ").run();
  }

  #escape(target) {
    const {tools, state, following, notices} = this.app;
    if (writing(target)) target.blur();
    else if (tools.cancel() || this.hand.hide()) return;
    else if (state.now.following) following.pause();
    else notices.dismissLast();
  }
}

/** A cursor on the frame for those who have no pointer: arrows with Shift move it, Enter presses and lets go. */
class Hand {
  constructor({tools, camera, stage, view, interrupt}) {
    Object.assign(this, {tools, camera, stage, view, interrupt});
    this.at = null;
    this.pressed = false;
    view.on(["frame", "label", "tool"], () => (this.pressed = false));
  }

  /** Takes a key. Says whether it was one of the cursor's. */
  key(event) {
    const move = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (move && event.shiftKey) {
      const step = event.ctrlKey || event.metaKey ? 1 : STEP;
      const [x, y] = this.at ?? [this.camera.width / 2, this.camera.height / 2];
      const clamp = (value, most) => Math.min(most, Math.max(0, value));
      this.at = this.at
        ? [clamp(x + step * move[0], this.camera.width), clamp(y + step * move[1], this.camera.height)]
        : [x, y];
      this.tools.move(this.camera.toImage(this.at));
      return true;
    }
    if (event.key !== "Enter" || event.ctrlKey || !this.at || event.repeat) return false;
    this.#press(event.shiftKey);
    return true;
  }

  hide() {
    if (!this.at) return false;
    this.at = null;
    this.tools.leave();
    return true;
  }

  #press(subtract) {
    const point = this.camera.toImage(this.at);
    if (this.pressed) {
      this.tools.up(point);
      this.pressed = false;
    } else {
      this.interrupt();
      this.pressed = this.tools.down(point, subtract);
      // What is clicked rather than dragged needs no second press.
      if (this.pressed && ["click", "polygon"].includes(this.view.tool)) this.#press(subtract);
    }
  }
}

/**
 * A control used with a pointer gives the focus back, so that space and arrows mean playing and stepping again; one
 * reached by the keyboard keeps it.
 */
function letGoOfControls() {
  const letGo = (control) => control === document.activeElement && control.blur();
  addEventListener("click", (event) => {
    const button = event.target.closest?.("button:not([role=tab]), summary");
    if (button && event.detail > 0 && !button.closest("dialog")) letGo(button);
  });
  addEventListener("pointerup", (event) => event.target.matches?.("input[type=range]") && letGo(event.target));
  addEventListener("change", (event) => event.target.matches("select, input[type=color]") && letGo(event.target));
}

const GESTURES = [
  ["Left button, pen, one finger", "Draw with the tool"],
  ["Right button, or Alt with the left", "Erase, or “does not belong” with clicks"],
  ["Wheel; two fingers", "Zoom"],
  ["Shift or Alt with the wheel", "Size of the brush"],
  ["Space and drag; middle button; two fingers", "Move the frame"],
  ["Wheel on the timeline; with Shift", "Zoom into it; move along it"],
  ["Shift with arrows (Ctrl: fine)", "Move a cursor on the frame by keys"],
  ["Enter while that cursor is shown", "Press, and let go; with Shift it erases; Esc hides it"],
];

/** Fills the help sheet from the table of commands. Returns what opens and closes it. */
export function helpSheet(commands) {
  const dialog = find("#help");
  const columns = find("#help-keys");
  for (const [group, members] of grouped(commands)) {
    const list = make("dl", {});
    for (const command of members) {
      if (!command.keys.length || /^object-[1-9]$/.test(command.id)) continue;
      addLine(list, command.keys.map(keyText), describe(command));
    }
    if (group === "Objects") addLine(list, ["1", "9"], "Choose an object of the list", " to ");
    columns.append(make("section", {}, make("h3", {textContent: group}), list));
  }
  const list = make("dl", {});
  for (const [gesture, text] of GESTURES) {
    list.append(make("dt", {textContent: gesture}), make("dd", {textContent: text}));
  }
  columns.append(make("section", {className: "wide"}, make("h3", {textContent: "Gestures"}), list));
  // A click beside the sheet closes it.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  return () => (dialog.open ? dialog.close() : dialog.showModal());
}

/** Names that depend on the state are given as they are without it. */
const describe = ({id, text}) => ({play: "Play or stop", undo: "Undo", redo: "Redo"})[id] ?? text;

function addLine(list, keys, text, between = " ") {
  const term = make("dt");
  keys.forEach((key, place) => term.append(place ? between : "", make("kbd", {textContent: key})));
  list.append(term, make("dd", {textContent: text}));
}

function grouped(commands) {
  const groups = new Map();
  for (const command of commands.values()) {
    if (!groups.has(command.group)) groups.set(command.group, []);
    groups.get(command.group).push(command);
  }
  return groups;
}

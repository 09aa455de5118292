// All that can be done by a button or a key, in one table: the buttons take name and tooltip from it, the keys what to
// run, and the help sheet its lines.

import {find, findAll, icon, rename} from "./dom.js";
import {FOLLOWED} from "./frame_index.js";
import {MODES} from "./looks.js";
import {TOOLS} from "./tools.js";

/**
 * A command: `id`, `text` (a string or a function), `keys` as `combination` in keys.js names them, `group` of the help
 * sheet, `run`, and where it applies `enabled` and `pressed`.
 */
export function allCommands(app) {
  const {state, view, acts, camera, player, edits, following, index, timeline, help, tools} = app;
  const frame = () => state.frame(view.frame);
  const history = () => state.now.history;
  const object = () => state.object(view.label);
  const number = (selector) => find(selector).valueAsNumber;
  const send = (name) => () => acts.send({do: name});
  const revert = async (name, done) => {
    // What is undone may be on another frame than the one that is looked at.
    const text = history()[name];
    if (await acts.send({do: name})) app.notices.say(`${done}: ${text}`);
  };
  const choose = (place) => {
    const chosen = state.now.objects[place];
    if (chosen) view.set({label: chosen.label});
  };
  const write = (selector) => {
    find(selector).focus();
    find(selector).select();
  };
  const reach = (tab, selector) => {
    view.set({tab});
    write(selector);
  };
  const cycle = (by) => {
    const at = MODES.findIndex((mode) => mode.name === view.mode) + by;
    view.set({mode: MODES[(at + MODES.length) % MODES.length].name});
  };

  const table = {
    "Moving": [
      ["play", () => (player.playing ? "Stop playing" : "Play"), [" "], () => player.toggle()],
      ["back", "Previous frame", ["ArrowLeft"], () => player.step(-1)],
      ["forward", "Next frame", ["ArrowRight"], () => player.step(1)],
      ["back-10", "Ten frames back", ["PageUp"], () => player.step(-10)],
      ["forward-10", "Ten frames on", ["PageDown"], () => player.step(10)],
      ["first", "First frame", ["Home"], () => player.go(0)],
      ["last", "Last frame", ["End"], () => player.go(state.last)],
      ["previous-annotated", "Previous annotated frame", [","], () => player.jumpAnnotated(-1)],
      ["next-annotated", "Next annotated frame", ["."], () => player.jumpAnnotated(1)],
      ["jump-change", "Jump to the largest change, then the next largest", ["j"], () => player.jumpGreatest("change")],
      ["jump-uncertainty", "Jump to the greatest uncertainty, then the next", ["u"],
        () => player.jumpGreatest("uncertainty")],
      ["go-to", "Go to a frame by its number", ["g"], () => write("#frame-number")],
      ["slower", "Play slower", ["<"], () => player.shift(-1)],
      ["faster", "Play faster", [">"], () => player.shift(1)],
    ],
    "Following": [
      ["follow-forward", "Follow forward from this frame", ["f"], () => following.follow("forward"),
        {enabled: () => following.possible}],
      ["follow-backward", "Follow backward from this frame", ["F"], () => following.follow("backward"),
        {enabled: () => following.possible}],
      ["follow-both", "Follow both ways from this frame", ["d"], () => following.follow("both"),
        {enabled: () => following.possible}],
      ["follow-step", "Follow one frame forward", ["s"], () => following.step(), {enabled: () => following.possible}],
      ["pause", "Pause following", ["Escape"], () => following.pause(),
        {enabled: () => Boolean(state.now.following)}],
      ["live", "Watch the frame being followed", ["w"], () => player.attach()],
    ],
    "Tools": [
      ...TOOLS.map((tool) => [
        `tool-${tool.name}`, tool.text, [tool.key], () => view.set({tool: tool.name}),
        {pressed: () => view.tool === tool.name},
      ]),
      ["smaller", "Smaller brush", ["["], () => app.resizeBrush(-1)],
      ["larger", "Larger brush", ["]"], () => app.resizeBrush(1)],
      ["fill-holes", "Fill the object's holes", ["q"], () => edits.clean("fill_holes"), {enabled: object}],
      ["drop-islands", "Drop islands apart from the object", ["i"], () => edits.clean("drop_islands"),
        {enabled: object}],
      ["grow", "Grow the object by so many pixels", ["}"], () => edits.clean("grow"), {enabled: object}],
      ["shrink", "Shrink the object by so many pixels", ["{"], () => edits.clean("shrink"), {enabled: object}],
      ["clear-object", "Clear the current object in this frame", ["Delete", "Backspace"],
        () => tools.dropCorner() || edits.clearObject(), {enabled: object}],
      ["clear-frame", "Clear all objects in this frame", ["Shift+Delete", "Shift+Backspace"], () => edits.clearFrame(),
        {enabled: () => frame()?.map}],
    ],
    "Objects": [
      ["add-object", "Add an object", ["n"], () => edits.addObject()],
      ...[1, 2, 3, 4, 5, 6, 7, 8, 9].map((digit) => [
        `object-${digit}`, `Choose object ${digit} of the list`, [String(digit)], () => choose(digit - 1),
      ]),
      ["hide", "Hide or show the current object", ["h"], () => edits.toggle("hidden")],
      ["lock", "Lock or unlock the current object", ["l"], () => edits.toggle("locked")],
      ["remove", "Remove the current object (undo brings it back)", ["Ctrl+Delete", "Ctrl+Backspace"],
        () => edits.removeObject(view.label), {enabled: object}],
    ],
    "This frame": [
      ["confirm", "Confirm: this frame's mask is right, it counts as annotated", ["Enter"],
        () => tools.closePolygon() || edits.confirm(), {enabled: () => frame()?.map || state.now.objects.length}],
      ["unannotate", "Take back that this frame is annotated", ["Ctrl+Enter"], () => edits.unannotate(),
        {enabled: () => frame()?.annotated}],
      ["permanent", "Keep this frame in the permanent memory", ["k"], () => edits.togglePermanent(),
        {enabled: () => frame()?.map || frame()?.permanent, pressed: () => Boolean(frame()?.permanent)}],
      ["mark", "Mark this frame", ["m"], () => edits.toggleMark(),
        {pressed: () => state.now.marks.includes(view.frame)}],
      ["copy-previous", "Copy the mask of the previous frame", ["y"], () => edits.copy(view.frame - 1),
        {enabled: () => view.frame > 0}],
      ["copy-next", "Copy the mask of the next frame", ["Y"], () => edits.copy(view.frame + 1),
        {enabled: () => view.frame < state.last}],
      ["copy-number", "Copy the mask of a frame by its number", [";"], () => reach("objects", "#copy-frame")],
      ["copy-from", "Copy the mask of the frame with that number", [], () => edits.copy(number("#copy-frame"))],
      ["import", "Import a label map (PNG) as this frame's mask", ["Ctrl+i"], () => find("#import-file").click()],
      ["erase-followed", "Erase masks that were followed, not annotated ones", [],
        () => edits.eraseFollowed(number("#erase-first"), number("#erase-last")),
        {enabled: () => index.next(-1, 1, FOLLOWED) !== null}],
    ],
    "Looking": [
      ["look-next", "Next look of the masks", ["v"], () => cycle(1)],
      ["look-previous", "Previous look of the masks", ["V"], () => cycle(-1)],
      ["stronger", "Stronger colour", ["a"], () => view.set({opacity: Math.min(1, view.opacity + 0.1)})],
      ["weaker", "Weaker colour", ["A"], () => view.set({opacity: Math.max(0, view.opacity - 0.1)})],
      ["compare", "Before and after the last change of this frame", ["o"], () => view.set({compare: !view.compare}),
        {pressed: () => view.compare}],
      ["zoom-in", "Zoom in", ["+", "="], () => camera.zoom(1.25)],
      ["zoom-out", "Zoom out", ["-"], () => camera.zoom(0.8)],
      ["zoom-fit", "Fit the frame", ["0"], () => camera.fit()],
      ["zoom-actual", "One screen pixel for each of the frame's", ["z"], () => camera.actual()],
      ["timeline-in", "Zoom into the timeline", ["t"], () => timeline.zoom(0.5)],
      ["timeline-out", "Zoom out of the timeline", ["T"], () => timeline.zoom(2)],
      ["timeline-fit", "Show the whole timeline", ["Ctrl+0"], () => view.set({span: null})],
    ],
    "Program": [
      ["undo", () => (history().undo ? `Undo: ${history().undo}` : "Nothing to undo"), ["Ctrl+z"],
        () => revert("undo", "Undone"), {enabled: () => Boolean(history().undo)}],
      ["redo", () => (history().redo ? `Redo: ${history().redo}` : "Nothing to redo"), ["Ctrl+Z", "Ctrl+y"],
        () => revert("redo", "Done again"), {enabled: () => Boolean(history().redo)}],
      ["clear-memory", "Clear the working and long-term memory; permanent frames stay", ["Ctrl+m"],
        send("clear_memory")],
      ["tab-objects", "Panel of objects", ["O"], () => view.set({tab: "objects"})],
      ["tab-memory", "Panel of the memory", ["M"], () => view.set({tab: "memory"})],
      ["tab-export", "Panel of exports", ["E"], () => view.set({tab: "export"})],
      ["help", "Keys and gestures", ["?"], () => help()],
    ],
  };

  const commands = new Map();
  for (const [group, rows] of Object.entries(table)) {
    for (const [id, text, keys, run, {enabled, pressed} = {}] of rows) {
      commands.set(id, {id, text, keys, group, run, enabled, pressed});
    }
  }
  return commands;
}

export const textOf = (command) => (typeof command.text === "function" ? command.text() : command.text);

/** Whether it can be done now; a command without a condition always can. */
export const mayRun = (command) => !command.enabled || Boolean(command.enabled());

/** Gives the buttons of the page their icons, and the commands' names, keys and conditions. */
export class CommandButtons {
  constructor(commands, app, keyText) {
    this.keyText = keyText;
    this.bound = [];
    for (const button of findAll("button[data-icon]")) button.prepend(icon(button.dataset.icon));
    for (const button of findAll("button[data-command]")) {
      const command = commands.get(button.dataset.command);
      button.addEventListener("click", command.run);
      this.bound.push({button, command, words: Boolean(button.textContent.trim())});
    }
    const refresh = () => this.refresh();
    app.state.on(["history", "frames", "objects", "marks", "following", "network"], refresh);
    app.view.on(["frame", "label", "tool", "compare"], refresh);
    this.refresh();
  }

  refresh() {
    for (const {button, command, words} of this.bound) {
      const text = textOf(command);
      if (words) button.title = `${text}${this.#key(command, " (", ")")}`;
      else rename(button, text, this.#key(command));
      button.disabled = !mayRun(command);
      if (command.pressed) button.setAttribute("aria-pressed", String(Boolean(command.pressed())));
    }
  }

  #key({keys}, before = "", after = "") {
    return keys.length ? before + this.keyText(keys[0]) + after : "";
  }
}

// The bars around the frame: the tools with their options, the looks, the zoom, and the controls of playing.

import {find, findAll, icon, make, onEnter, reconcile, rename, setText, setValue} from "./dom.js";
import {MODES} from "./looks.js";
import {SPEEDS} from "./player.js";
import {TOOLS} from "./tools.js";

const LEAST_RADIUS = 0.5; // image pixels
const RESIZE = 1.15; // factor of one step of the brush's size

/** The tool bar at the left, made from the list of tools; before the commands are bound to its buttons. */
export function drawToolBar() {
  for (const {name} of TOOLS) {
    const button = make("button", {type: "button", className: "icon-button", data: {tool: name, icon: name}});
    button.dataset.command = `tool-${name}`;
    find("#tool-list").append(button);
  }
}

export class Controls {
  constructor({state, view, acts, camera, player, stage, tools}) {
    Object.assign(this, {state, view, acts, camera, player, stage, tools});
    const {video} = state.now;
    this.mostRadius = Math.max(20, Math.round(Math.max(video.width, video.height) / 8));
    this.#listen();
    state.on(["video", "segmenter", "objects"], () => this.drawState());
    state.on(["frames", "objects"], () => this.#drawNextStep());
    view.on(["label"], () => this.#drawNextStep());
    view.on(["tool", "radius", "mode", "opacity", "compare", "split"], () => this.drawView());
    view.on(["frame", "speed"], () => this.drawPlaying());
    view.on(["camera"], () => this.drawZoom());
    this.drawState();
    this.#drawNextStep();
    this.drawPlaying();
  }

  #listen() {
    const {view} = this;
    // The slider is logarithmic: one pixel more matters for a small brush only.
    find("#radius").oninput = (event) => this.setRadius(this.#radiusAt(event.target.valueAsNumber / 100));
    find("#mode").append(...MODES.map(({name, text}) => make("option", {value: name, textContent: text})));
    find("#mode").onchange = (event) => view.set({mode: event.target.value});
    find("#opacity").oninput = (event) => view.set({opacity: event.target.valueAsNumber});
    find("#split").oninput = (event) => view.set({split: event.target.valueAsNumber});
    find("#segmenter").onchange = (event) => this.acts.send({do: "use_segmenter", name: event.target.value});
    find("#close-polygon").onclick = () => this.tools.closePolygon();
    const speeds = SPEEDS.map((speed) => make("option", {value: speed, textContent: `${speed}×`}));
    find("#speed").append(...speeds);
    find("#speed").onchange = (event) => this.player.setSpeed(Number(event.target.value));
    const number = find("#frame-number");
    number.onchange = () => {
      if (Number.isInteger(number.valueAsNumber)) this.player.go(number.valueAsNumber);
      number.value = view.frame;
    };
    onEnter(number, () => {
      number.onchange();
      number.blur();
    });
  }

  setRadius(radius) {
    const bounded = Math.min(this.mostRadius, Math.max(LEAST_RADIUS, radius));
    this.view.set({radius: Math.round(bounded * 10) / 10});
  }

  /** Makes the brush a step larger (1) or smaller (-1). */
  resizeBrush(by) {
    const {radius} = this.view;
    // At least half a pixel, or rounding would hold a small brush where it is.
    this.setRadius(by > 0 ? Math.max(radius * RESIZE, radius + 0.5) : Math.min(radius / RESIZE, radius - 0.5));
  }

  #radiusAt(share) {
    return LEAST_RADIUS * (this.mostRadius / LEAST_RADIUS) ** share;
  }

  #shareOf(radius) {
    return Math.log(radius / LEAST_RADIUS) / Math.log(this.mostRadius / LEAST_RADIUS);
  }

  drawState() {
    const {video, segmenter, objects} = this.state.now;
    setText(find("#video-name"), video.name);
    find("#video-name").title = `${video.path}: ${video.width} × ${video.height}, ${video.count} frames`;
    document.title = `${video.name} – XMem annotation`;
    find("#frame-number").max = this.state.last;
    setText(find("#frame-count"), `of 0–${this.state.last}`);
    const select = find("#segmenter");
    reconcile(select, segmenter.names, (name) => name, (name) => make("option", {value: name}), (option, name) => {
      setText(option, SEGMENTERS[name] ?? name);
    });
    setValue(select, segmenter.name);
    select.title = "What finds the object in a box or at a click";
    this.#drawHint(objects.length === 0);
    this.drawView();
  }

  drawView() {
    const {tool, radius, mode, opacity, compare, split} = this.view;
    for (const element of findAll("[data-for]")) element.hidden = !element.dataset.for.split(" ").includes(tool);
    const hint = find("#tool-hint");
    setText(hint, TOOLS.find((other) => other.name === tool).hint);
    hint.title = hint.textContent;
    setValue(find("#radius"), Math.round(100 * this.#shareOf(radius)));
    setText(find("#radius-text"), `${Math.round(2 * radius)} px`);
    setValue(find("#mode"), mode);
    setValue(find("#opacity"), opacity);
    find("#opacity").title = mode === "fade" ? "Strength of the fading" : "Strength of the colour";
    find("#opacity").disabled = mode !== "overlay" && mode !== "fade";
    find("#split").hidden = !compare;
    setValue(find("#split"), split);
    find("#canvas").dataset.cursor = tool;
  }

  drawPlaying() {
    const {frame, speed} = this.view;
    setValue(find("#frame-number"), frame);
    setValue(find("#speed"), speed);
    const play = find("#play");
    const shown = this.player.playing ? "pause" : "play";
    if (play.dataset.shown === shown) return;
    play.dataset.shown = shown;
    play.replaceChildren(icon(shown));
    rename(play, this.player.playing ? "Stop playing" : "Play", "Space");
  }

  drawZoom() {
    const percent = Math.round(100 * this.camera.scale);
    setText(find("#zoom-text"), `${percent} %`);
    find("#zoom-text").setAttribute("aria-label", `Zoom ${percent} %; show one screen pixel for each of the frame's`);
  }

  /** One line on what is missing, while there are objects without any mask; it does not stand in the way of drawing. */
  #drawNextStep() {
    const {objects, frames} = this.state.now;
    const line = find("#next-step");
    const current = this.state.object(this.view.label);
    line.hidden = !objects.length || Object.keys(frames).length > 0 || !current;
    setText(line, current ? `Paint “${current.name}” in one frame, then press Forward under Follow.` : "");
  }

  /** What to do first, while there are no objects. */
  #drawHint(needed) {
    const hint = find("#hint");
    hint.hidden = !needed || this.hintRead;
    if (!needed || hint.childElementCount) return;
    const steps = [
      "Add an object for each thing that is to be followed.",
      "Paint its mask in one frame: with the brush, or with a box or clicks.",
      "Press Forward under Follow: the mask is found in the frames that come.",
      "Where it is wrong, pause, correct it, and follow on from there.",
    ];
    const add = make("button", {type: "button", className: "strong small", textContent: "Add object"});
    add.onclick = () => find("#add-object").click();
    const close = make("button", {type: "button", className: "small", textContent: "Not now"});
    close.onclick = () => {
      this.hintRead = true;
      hint.hidden = true;
    };
    const list = make("ol", {}, ...steps.map((text) => make("li", {textContent: text})));
    hint.append(make("h2", {textContent: "How to begin"}), list, make("div", {}, add, close));
  }
}

const SEGMENTERS = {network: "XMem’s network", grabcut: "GrabCut", sam2: "SAM 2"};

// The stage: decides which frame and map can be shown, asks for what is missing, and draws when something has changed.

import {mapAddress} from "./addresses.js";
import {Layers, Style} from "./looks.js";
import {LabelMap} from "./maps.js";

const AHEAD = 8; // frames that are fetched in advance while playing

export class Stage {
  /** `overlay(drawing)` draws the tools' marks on the upper canvas, in CSS pixels. */
  constructor({element, state, view, camera, pictures, maps, drafts, overlay}) {
    Object.assign(this, {element, state, view, camera, pictures, maps, drafts, overlay});
    this.canvas = element.querySelector("#canvas");
    this.top = element.querySelector("#canvas-top");
    this.message = element.querySelector("#stage-message");
    this.labels = element.querySelector("#split-labels");
    this.scratch = document.createElement("canvas");
    this.layers = new Layers();
    this.pace = "rest"; // or "scrub", "play", "live": what is worth fetching
    this.shown = null; // {frame, map, before, problem}: what can be drawn
    this.dirty = this.topDirty = false;
    this.styles = {key: null};

    new ResizeObserver(() => this.#resize()).observe(element);
    view.on(["frame"], () => this.refresh());
    view.on(["mode", "opacity", "label", "split"], () => this.soil());
    view.on(["compare"], () => this.refresh());
    state.on(["frames", "objects", "video", "clicks"], (changed) => this.#newState(changed));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.soil());
  }

  /** Sets what to fetch: "rest" the full picture, "scrub" previews, "play" what comes next, "live" the frame itself. */
  setPace(pace) {
    if (this.pace === pace) return;
    this.pace = pace;
    this.refresh();
  }

  /** Whether the current frame is what is on the screen: only then may it be drawn on. */
  get settled() {
    return this.shown?.frame === this.view.frame && !this.shown.problem;
  }

  /** Whether a frame could be drawn at once, with its masks. */
  canShow(frame) {
    return Boolean(this.#problem(frame)) || (this.pictures.has(frame) && this.#mapThere(this.state.frame(frame)?.map));
  }

  /** Shows the current frame if it is there, and asks for what is missing. */
  refresh() {
    const {frame} = this.view;
    if (this.canShow(frame)) this.#show(frame);
    this.#want(frame);
  }

  pictureArrived(frame) {
    const target = this.view.frame;
    if (frame === target) return this.refresh();
    // While scrubbing, the nearest that has come is better than a picture that stands still.
    const nearer = !this.shown || Math.abs(frame - target) < Math.abs(this.shown.frame - target);
    if (this.pace === "scrub" && nearer && this.pictures.has(frame) && !this.canShow(target)) this.#show(frame);
  }

  /** Forgets what was fetched and built, and begins anew. */
  restart() {
    this.layers = new Layers();
    this.drafts.dropAll();
    this.refresh();
  }

  /** Draws the stage anew in the next animation frame. */
  soil() {
    this.dirty = true;
    this.soilTop();
  }

  /** Draws the marks of the tools anew. */
  soilTop() {
    if (!this.topDirty) requestAnimationFrame(() => this.#draw());
    this.topDirty = true;
  }

  #newState(changed) {
    const {frames} = Object.fromEntries(changed);
    if (frames) this.drafts.settle(Array.isArray(frames) ? frames.map(Number) : null);
    this.refresh();
    this.soil();
  }

  #problem(frame) {
    const said = this.pictures.failure(frame);
    if (this.state.now.video.bad.includes(frame)) return said ?? `Frame ${frame} cannot be decoded.`;
    return said ?? null;
  }

  #mapThere(id) {
    return !id || this.maps.has(mapAddress(id)) || Boolean(this.maps.failure(mapAddress(id)));
  }

  #show(frame) {
    const entry = this.state.frame(frame);
    const map = entry?.map && this.maps.has(mapAddress(entry.map)) ? entry.map : null;
    // While scrubbing a map may come later than the picture, but a map that is drawn is replaced only by the next one.
    const before = entry?.before && this.maps.has(mapAddress(entry.before)) ? entry.before : null;
    this.shown = {frame, map, before, problem: this.#problem(frame)};
    this.drafts.swept(frame);
    this.soil();
  }

  #want(frame) {
    const {pictures, state, pace} = this;
    const last = state.last;
    const good = (other) => other >= 0 && other <= last && !state.now.video.bad.includes(other);
    const near = {rest: [0, 1, -1], scrub: [0], live: [0]}[pace] ?? Array.from({length: AHEAD}, (_, i) => i);
    const frames = near.map((offset) => frame + offset).filter(good);
    const address = {rest: pictures.full, scrub: pictures.preview}[pace] ?? pictures.play;
    pictures.loader.want(frames.map(address));
    const ids = frames.map((other) => state.frame(other)?.map);
    if (this.view.compare) ids.splice(1, 0, state.frame(frame)?.before);
    this.maps.want(ids.filter(Boolean).map(mapAddress));
  }

  #resize() {
    const {width, height} = this.element.getBoundingClientRect();
    const ratio = devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.top, this.scratch]) {
      canvas.width = Math.max(1, Math.round(width * ratio));
      canvas.height = Math.max(1, Math.round(height * ratio));
    }
    this.camera.resize(width, height);
    this.soil();
  }

  #draw() {
    this.topDirty = false;
    if (this.dirty) this.#drawPicture();
    this.dirty = false;
    const drawing = this.top.getContext("2d");
    const ratio = devicePixelRatio || 1;
    drawing.setTransform(1, 0, 0, 1, 0, 0);
    drawing.clearRect(0, 0, this.top.width, this.top.height);
    drawing.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (this.settled) this.overlay(drawing);
  }

  #drawPicture() {
    const {shown, canvas} = this;
    if (!shown) return;
    const picture = shown.problem ? null : this.pictures.best(shown.frame);
    if (!shown.problem && !picture) return this.#want(this.view.frame); // it fell out of the cache meanwhile
    this.message.hidden = !shown.problem;
    this.message.textContent = shown.problem ?? "";
    const drawing = canvas.getContext("2d");
    drawing.setTransform(1, 0, 0, 1, 0, 0);
    drawing.clearRect(0, 0, canvas.width, canvas.height);
    const compared = this.view.compare && picture;
    this.labels.hidden = !compared;
    if (picture && compared) {
      const line = Math.round(this.view.split * canvas.width);
      this.#half(drawing, 0, line, picture, this.#layer(shown.frame, shown.before, false));
      this.#half(drawing, line, canvas.width, picture, this.#layer(shown.frame, shown.map, true));
      this.#splitLine(drawing, line);
    } else if (picture) {
      this.#side(drawing, picture, this.#layer(shown.frame, shown.map, true));
    }
    Object.assign(document.body.dataset, {frame: shown.frame, drawnMap: shown.map ?? "", ready: "true"});
  }

  #half(drawing, from, to, picture, layer) {
    drawing.save();
    drawing.beginPath();
    drawing.rect(from, 0, to - from, this.canvas.height);
    drawing.clip();
    this.#side(drawing, picture, layer);
    drawing.restore();
  }

  #splitLine(drawing, x) {
    drawing.setTransform(1, 0, 0, 1, 0, 0);
    drawing.fillStyle = "#000000";
    drawing.fillRect(x - 2, 0, 4, this.canvas.height);
    drawing.fillStyle = "#ffffff";
    drawing.fillRect(x - 1, 0, 2, this.canvas.height);
    this.labels.style.left = `${100 * this.view.split}%`;
  }

  /** The image of a map in the current look, with the drafts on it; null where there is nothing. */
  #layer(frame, id, withDrafts) {
    const {objects, video} = this.state.now;
    const style = this.#style(objects);
    const map = id ? this.maps.get(mapAddress(id)) : LabelMap.empty(video.width, video.height);
    if (withDrafts) {
      const locked = objects.filter((object) => object.locked).map((object) => object.label);
      const draft = map && this.drafts.layer(frame, id, map, style, locked);
      if (draft) return draft;
    }
    return id && map ? this.layers.get(id, map, style) : null;
  }

  /** Styles are kept while nothing that goes into them changes. */
  #style(objects) {
    const {mode, label} = this.view;
    if (this.styles.objects !== objects || this.styles.mode !== mode || this.styles.label !== label) {
      this.styles = {objects, mode, label, style: new Style(objects, mode, label)};
    }
    return this.styles.style;
  }

  /** Draws the frame with one map's layer in the current look. */
  #side(drawing, picture, layer) {
    const {mode, opacity} = this.view;
    this.#place(drawing, picture);
    if (mode === "overlay" || mode === "contours") {
      if (!layer) return;
      drawing.globalAlpha = mode === "overlay" ? opacity : 1;
      this.#place(drawing, layer);
      drawing.globalAlpha = 1;
      return;
    }
    const {width, height} = this.camera.image;
    if (mode === "colour") {
      // Laying a grey over the picture as its saturation leaves the brightness alone.
      drawing.globalCompositeOperation = "saturation";
      drawing.fillStyle = "#808080";
    } else if (mode === "fade") {
      drawing.globalAlpha = opacity;
      drawing.fillStyle = getComputedStyle(this.element).backgroundColor;
    } else {
      drawing.fillStyle = this.#checks(drawing);
    }
    drawing.fillRect(0, 0, width, height);
    drawing.globalCompositeOperation = "source-over";
    drawing.globalAlpha = 1;
    if (!layer) return;
    const cut = this.scratch.getContext("2d");
    cut.setTransform(1, 0, 0, 1, 0, 0);
    cut.clearRect(0, 0, this.scratch.width, this.scratch.height);
    this.#place(cut, picture);
    cut.globalCompositeOperation = "destination-in";
    this.#place(cut, layer);
    cut.globalCompositeOperation = "source-over";
    drawing.setTransform(1, 0, 0, 1, 0, 0);
    drawing.drawImage(this.scratch, 0, 0);
  }

  /** Draws an image over the frame's place and leaves the camera's transform on. */
  #place(drawing, image) {
    const ratio = devicePixelRatio || 1;
    const {scale, origin} = this.camera;
    const {width, height} = this.camera.image;
    drawing.setTransform(scale * ratio, 0, 0, scale * ratio, origin[0] * ratio, origin[1] * ratio);
    const enlarged = (scale * ratio * width) / image.width;
    // Masks have hard borders; single pixels of the picture show once they are large enough to be painted one by one.
    drawing.imageSmoothingEnabled = image instanceof HTMLCanvasElement ? enlarged < 1 : enlarged < 5;
    drawing.imageSmoothingQuality = "high";
    drawing.drawImage(image, 0, 0, width, height);
  }

  /** The usual sign of "nothing here": grey checks that stay the same size at any zoom. */
  #checks(drawing) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 16;
    const pen = tile.getContext("2d");
    pen.fillStyle = "#6b6f75";
    pen.fillRect(0, 0, 16, 16);
    pen.fillStyle = "#7d8187";
    pen.fillRect(0, 0, 8, 8);
    pen.fillRect(8, 8, 8, 8);
    const pattern = drawing.createPattern(tile, "repeat");
    pattern.setTransform(new DOMMatrix().scale(1 / (this.camera.scale * (devicePixelRatio || 1))));
    return pattern;
  }
}

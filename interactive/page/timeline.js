// The timeline: ruler, thumbnails, marks, and a row for each object. It is drawn on a canvas and looks at each pixel
// column once, so that ten thousand frames cost no more than a thousand.

import {previewAddress} from "./addresses.js";
import {find} from "./dom.js";
import {ANNOTATED, PERMANENT} from "./frame_index.js";
import {thumbLoader} from "./pictures.js";

const RULER = 17; // heights in CSS pixels
const THUMBS = 32;
const MARKS = 11;
const LEAST_ROW = 11;
const MOST_ROW = 24;
const LEAST_SPAN = 12; // frames that are shown at the closest zoom

export class Timeline {
  constructor({state, view, index, player}) {
    Object.assign(this, {state, view, index, player});
    this.canvas = find("#timeline");
    this.rows = document.createElement("canvas"); // all but the playhead, which moves more often
    this.dirty = this.soiled = false;
    this.colours = null;
    const {video} = state.now;
    this.thumbWidth = Math.max(12, Math.round((THUMBS * video.width) / video.height));
    this.thumbs = thumbLoader(THUMBS * Math.ceil(devicePixelRatio || 1), () => this.soil());
    state.on(["frames", "objects", "marks", "video"], () => this.soil());
    state.on(["following"], () => this.soilHead());
    view.on(["span", "label"], () => this.soil());
    view.on(["frame"], () => this.#follow());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.colours = null;
      this.soil();
    });
    new ResizeObserver(() => this.#resize()).observe(this.canvas.parentElement);
    this.#listen();
  }

  /** Shows `factor` times as many frames, with the frame at `x` (or the current one) where it is. */
  zoom(factor, x = null) {
    const [first, end] = this.span;
    const {count} = this.index;
    const frame = x === null ? this.view.frame + 0.5 : this.#frameAt(x);
    const length = Math.min(count, Math.max(Math.min(LEAST_SPAN, count), (end - first) * factor));
    const share = Math.min(1, Math.max(0, (frame - first) / (end - first)));
    this.#setSpan(frame - share * length, length);
  }

  pan(frames) {
    const [first, end] = this.span;
    this.#setSpan(first + frames, end - first);
  }

  /** The frames that are shown: the first, and the one after the last. Fractions are allowed. */
  get span() {
    return this.view.span ?? [0, this.index.count];
  }

  soil() {
    this.dirty = true;
    this.soilHead();
  }

  soilHead() {
    if (!this.soiled) requestAnimationFrame(() => this.#draw());
    this.soiled = true;
  }

  #setSpan(first, length) {
    const {count} = this.index;
    first = Math.min(count - length, Math.max(0, first));
    this.view.set({span: length >= count ? null : [first, first + length]});
  }

  /** Keeps the current frame in sight. */
  #follow() {
    const [first, end] = this.span;
    const {frame} = this.view;
    const length = end - first;
    if (!this.dragging && (frame < first || frame + 1 > end)) this.#setSpan(frame - 0.2 * length, length);
    this.#describe();
    this.soilHead();
  }

  get gutter() {
    return this.width < 600 ? 64 : 96;
  }

  /** CSS pixels for each frame. */
  get step() {
    const [first, end] = this.span;
    return (this.width - this.gutter) / (end - first);
  }

  #x(frame) {
    return this.gutter + (frame - this.span[0]) * this.step;
  }

  #frameAt(x) {
    return this.span[0] + (x - this.gutter) / this.step;
  }

  #listen() {
    const {canvas} = this;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const scrub = ([x]) => {
      const {count} = this.index;
      this.player.scrub(Math.min(count - 1, Math.max(0, Math.floor(this.#frameAt(x)))));
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      document.activeElement?.blur();
      const at = place(event);
      if (at[0] < this.gutter) return this.#choose(at[1]);
      this.dragging = true;
      canvas.setPointerCapture(event.pointerId);
      scrub(at);
    });
    canvas.addEventListener("mousedown", (event) => event.preventDefault());
    canvas.addEventListener("pointermove", (event) => this.dragging && scrub(place(event)));
    const end = () => (this.dragging = false);
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("wheel", (event) => this.#wheel(event, place(event)), {passive: false});
  }

  #wheel(event, [x]) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 30 : 1;
    const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (sideways) this.pan(((event.deltaX || event.deltaY) * unit) / this.step);
    else this.zoom(Math.exp(event.deltaY * unit * 0.002), Math.max(this.gutter, x));
  }

  #choose(y) {
    const {top, height, first} = this.#layout();
    const object = y < top ? null : this.state.now.objects[first + Math.floor((y - top) / height)];
    if (object) this.view.set({label: object.label});
  }

  #resize() {
    const box = this.canvas.parentElement.getBoundingClientRect();
    const ratio = devicePixelRatio || 1;
    [this.width, this.height] = [Math.max(1, box.width), Math.max(1, box.height)];
    for (const canvas of [this.canvas, this.rows]) {
      canvas.width = Math.round(this.width * ratio);
      canvas.height = Math.round(this.height * ratio);
    }
    this.soil();
  }

  /** Where the objects' rows are. If they do not all fit, those around the current object are shown. */
  #layout() {
    const top = RULER + THUMBS + MARKS + 3;
    const {objects} = this.state.now;
    const room = this.height - top;
    const height = Math.min(MOST_ROW, Math.max(LEAST_ROW, Math.floor(room / Math.max(1, objects.length))));
    const fit = Math.max(1, Math.floor(room / height));
    const current = objects.findIndex((object) => object.label === this.view.label);
    const first = Math.max(0, Math.min(objects.length - fit, current - Math.floor(fit / 2)));
    return {top, height, first, fit};
  }

  #draw() {
    this.soiled = false;
    if (!this.width) return;
    const ratio = devicePixelRatio || 1;
    if (this.dirty) {
      const pen = this.rows.getContext("2d");
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      this.colours ??= readColours(this.canvas);
      this.#drawRows(pen);
      this.#describe();
    }
    this.dirty = false;
    const pen = this.canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.drawImage(this.rows, 0, 0);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#drawHead(pen);
  }

  /** The current frame in words, for those who cannot see the timeline. */
  #describe() {
    const {frame} = this.view;
    const entry = this.state.frame(frame);
    const names = this.state.now.objects.filter(({label}) => entry?.areas[label]).map(({name}) => name);
    const words = [`Frame ${frame}`, entry?.annotated ? "annotated" : entry?.map ? "followed" : "no mask", ...names];
    this.canvas.setAttribute("aria-valuemax", this.state.last);
    this.canvas.setAttribute("aria-valuenow", frame);
    this.canvas.setAttribute("aria-valuetext", words.join(", "));
  }

  #drawRows(pen) {
    const {colours} = this;
    pen.clearRect(0, 0, this.width, this.height);
    this.#drawRuler(pen);
    pen.save();
    pen.beginPath();
    pen.rect(this.gutter, 0, this.width - this.gutter, this.height);
    pen.clip();
    this.#drawThumbs(pen);
    this.#drawMarks(pen);
    pen.restore();
    const {top, height, first, fit} = this.#layout();
    const {objects} = this.state.now;
    objects.slice(first, first + fit).forEach((object, place) => {
      const y = top + place * height;
      const current = object.label === this.view.label;
      this.#drawName(pen, object, y, height, current);
      pen.fillStyle = current ? colours.current : colours.track;
      pen.fillRect(this.gutter, y, this.width - this.gutter, height - 2);
      const row = this.index.rows.get(object.label);
      if (row) this.#drawRow(pen, row, object.colour, y, height - 2);
    });
  }

  #drawRuler(pen) {
    const {colours} = this;
    const [first, end] = this.span;
    const step = niceStep(64 / this.step);
    pen.font = colours.font;
    pen.textBaseline = "middle";
    pen.textAlign = "left";
    pen.fillStyle = colours.quiet;
    for (let frame = Math.ceil(first / step) * step; frame < end; frame += step) {
      const x = this.#x(frame + 0.5);
      pen.fillRect(Math.round(x), RULER - 5, 1, 5);
      // The label beside its tick would be cut off at the right end.
      if (x + 40 < this.width) pen.fillText(String(frame), x + 4, RULER / 2);
    }
  }

  /** Each slot shows the frame in its middle. */
  #drawThumbs(pen) {
    const step = Math.max(1, Math.round(this.thumbWidth / this.step));
    const [first, end] = this.span;
    const wanted = [];
    pen.fillStyle = this.colours.track;
    pen.fillRect(this.gutter, RULER, this.width - this.gutter, THUMBS);
    for (let start = Math.floor(first / step) * step; start < end; start += step) {
      const frame = Math.min(this.state.last, start + Math.floor(step / 2));
      if (this.state.now.video.bad.includes(frame)) continue;
      const address = previewAddress(frame);
      wanted.push(address);
      const thumb = this.thumbs.get(address);
      if (!thumb) continue;
      const [x, slot] = [this.#x(start), step * this.step];
      const width = Math.min(slot, this.thumbWidth) - 1;
      const share = Math.min(1, (width + 1) / this.thumbWidth);
      const cut = thumb.width * share;
      pen.drawImage(thumb, (thumb.width - cut) / 2, 0, cut, thumb.height, x + (slot - width) / 2, RULER, width, THUMBS);
    }
    this.thumbs.want(wanted);
  }

  #drawMarks(pen) {
    const {colours} = this;
    const y = RULER + THUMBS + 2;
    const wide = Math.max(2, this.step);
    pen.fillStyle = colours.bad;
    for (const frame of this.state.now.video.bad) pen.fillRect(this.#x(frame), y + 3, wide, 4);
    pen.fillStyle = colours.accent;
    for (const frame of this.state.now.marks) {
      const x = this.#x(frame + 0.5);
      pen.beginPath();
      pen.moveTo(x - 5, y);
      pen.lineTo(x + 5, y);
      pen.lineTo(x, y + 8);
      pen.fill();
    }
  }

  #drawName(pen, {name, colour, hidden}, y, height, current) {
    const {colours} = this;
    const middle = y + (height - 2) / 2;
    pen.globalAlpha = hidden ? 0.5 : 1;
    pen.fillStyle = colour;
    pen.fillRect(2, middle - 4, 8, 8);
    pen.fillStyle = current ? colours.text : colours.quiet;
    pen.font = current ? colours.bold : colours.font;
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    pen.save();
    pen.beginPath();
    pen.rect(0, y, this.gutter - 6, height);
    pen.clip();
    pen.fillText(name, 15, middle + 0.5);
    pen.restore();
    pen.globalAlpha = 1;
  }

  #drawRow(pen, {defined, area}, colour, y, height) {
    const {index, colours, gutter} = this;
    const columns = this.#columns();
    let most = 1;
    for (let frame = 0; frame < index.count; frame++) most = Math.max(most, area[frame]);
    const ticks = [];
    const bars = new Path2D();
    const curve = new Path2D();
    const absent = new Path2D();
    for (let column = 0; column < columns.length - 1; column++) {
      let [any, largest, flags] = [0, 0, 0];
      for (let frame = columns[column]; frame < Math.max(columns[column + 1], columns[column] + 1); frame++) {
        if (frame >= index.count || !defined[frame]) continue;
        any = 1;
        if (area[frame] > largest) largest = area[frame];
        flags |= index.flags[frame];
      }
      if (!any) continue;
      const x = gutter + column;
      if (largest) {
        bars.rect(x, y, 1, height);
        const rise = Math.max(1, (height - 1) * (largest / most));
        curve.rect(x, y + height - rise, 1, rise);
      } else {
        absent.rect(x, y + height - 1, 1, 1);
      }
      if (flags & ANNOTATED) ticks.push([column, flags]);
    }
    pen.fillStyle = colour;
    pen.globalAlpha = 0.3;
    pen.fill(bars);
    pen.globalAlpha = 0.75;
    pen.fill(curve);
    pen.globalAlpha = 1;
    pen.fillStyle = colours.quiet;
    pen.fill(absent);
    this.#drawTicks(pen, ticks, columns, y, height);
  }

  /** Annotated frames as strong ticks, those in the permanent memory with a diamond. */
  #drawTicks(pen, ticks, columns, y, height) {
    const {colours} = this;
    let last = -1;
    for (const [column, flags] of ticks) {
      // A frame wider than a pixel has many columns but one tick.
      const frame = columns[column];
      if (this.step >= 1 && frame === last) continue;
      last = frame;
      const x = this.step >= 1 ? this.#x(frame + 0.5) : this.gutter + column + 0.5;
      pen.fillStyle = colours.text;
      pen.fillRect(Math.round(x) - 1, y, this.step >= 4 ? 3 : 2, height);
      if (!(flags & PERMANENT)) continue;
      const [middle, size] = [y + height / 2, Math.min(6, height / 2)];
      pen.beginPath();
      pen.moveTo(x, middle - size);
      pen.lineTo(x + size, middle);
      pen.lineTo(x, middle + size);
      pen.lineTo(x - size, middle);
      pen.closePath();
      pen.fillStyle = colours.accent;
      pen.fill();
      pen.lineWidth = 1;
      pen.strokeStyle = colours.surface;
      pen.stroke();
    }
  }

  /** The first frame of each pixel column, and one more for the end. */
  #columns() {
    const wide = Math.floor(this.width - this.gutter);
    const [first, end] = this.span;
    const each = (end - first) / wide;
    return Int32Array.from({length: wide + 1}, (_, column) => Math.floor(first + column * each + 1e-6));
  }

  #drawHead(pen) {
    const {colours} = this;
    const {following} = this.state.now;
    pen.save();
    pen.beginPath();
    pen.rect(this.gutter - 7, 0, this.width, this.height);
    pen.clip();
    if (following) {
      pen.fillStyle = colours.accent;
      pen.globalAlpha = 0.5;
      pen.fillRect(this.#x(following.frame), RULER, Math.max(2, this.step), this.height);
      pen.globalAlpha = 1;
    }
    const {frame} = this.view;
    pen.fillStyle = colours.accent;
    if (this.step > 3) {
      pen.globalAlpha = 0.22;
      pen.fillRect(this.#x(frame), 0, this.step, this.height);
      pen.globalAlpha = 1;
    }
    const x = Math.round(this.#x(frame + 0.5));
    pen.fillStyle = colours.surface;
    pen.fillRect(x - 2, 0, 4, this.height);
    pen.fillStyle = colours.accent;
    pen.fillRect(x - 1, 0, 2, this.height);
    pen.font = colours.bold;
    const text = String(frame);
    const wide = pen.measureText(text).width + 10;
    const left = Math.min(this.width - wide, Math.max(this.gutter - 7, x - wide / 2));
    pen.beginPath();
    pen.roundRect(left, 0, wide, RULER - 1, 4);
    pen.fill();
    pen.fillStyle = colours.onAccent;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(text, left + wide / 2, RULER / 2);
    pen.restore();
  }
}

/** 1, 2 or 5 times a power of ten, at least `least`. */
function niceStep(least) {
  const ten = 10 ** Math.max(0, Math.floor(Math.log10(Math.max(1, least))));
  return [1, 2, 5, 10].map((part) => part * ten).find((step) => step >= least) ?? ten;
}

/** The canvas takes its colours from the style sheet, so that there is one place for them. */
function readColours(canvas) {
  const style = getComputedStyle(canvas);
  const value = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    text: value("text"),
    quiet: value("quiet"),
    accent: value("accent"),
    onAccent: value("on-accent"),
    surface: value("surface"),
    track: value("track"),
    current: value("track-current"),
    bad: value("error"),
    font: `11px ${style.fontFamily}`,
    bold: `600 11px ${style.fontFamily}`,
  };
}

// Edits that the server has not answered yet, painted into a copy of the map at once so that the hand sees what it
// does. They follow the server's rules (locked objects keep their pixels) but are only for the eye: the server's map
// replaces them.

import {Layer} from "./looks.js";

const PATIENCE = 1000; // milliseconds from the answer to the patch with the new map; an edit may also change nothing

export class Drafts {
  constructor(state, changed) {
    this.state = state;
    this.changed = changed;
    this.list = [];
    this.surface = null;
  }

  /** `shape` is {points, radius} (a stroke), {points} (a polygon) or {box}. */
  begin(frame, label, erase, shape) {
    const draft = {frame, label, erase, shape, settled: false, over: this.state.frame(frame)?.map};
    this.list.push(draft);
    this.surface = null;
    this.changed();
    return draft;
  }

  /** Adds a point to a stroke; only the box around it is painted again. */
  extend(draft, point) {
    const {points, radius} = draft.shape;
    const last = points.at(-1);
    points.push(point);
    if (this.surface && this.surface.drafts.includes(draft)) {
      const {labels, layer, style, kept} = this.surface;
      const box = paintSegment(labels, layer.canvas, last, point, radius, writer(draft, kept));
      layer.paintLabels(labels, style, box);
    }
    this.changed();
  }

  drop(draft) {
    this.list = this.list.filter((other) => other !== draft);
    this.surface = null;
    this.changed();
  }

  dropAll() {
    this.list = [];
    this.surface = null;
    this.changed();
  }

  /** After the server's answer: the draft goes as soon as the map that has it is there. */
  async until(draft, answer) {
    if ((await answer) === null) this.drop(draft);
    else setTimeout(() => this.drop(draft), PATIENCE);
  }

  /**
   * The entries of these frames (null: of any) have changed. If a frame's map has, the oldest draft on it is in that
   * map. (Acts are sent one after the other, so maps come in the order of the drafts.) It is still drawn until the new
   * map itself is; see `swept`.
   */
  settle(frames) {
    for (const frame of frames ?? new Set(this.list.map((draft) => draft.frame))) {
      const id = this.state.frame(frame)?.map;
      const drafts = this.list.filter((draft) => draft.frame === frame && !draft.settled && draft.over !== id);
      if (drafts.length) drafts[0].settled = true;
      for (const draft of drafts) draft.over = id;
    }
  }

  /** The frame's newest map is there to be drawn: drafts that are in it are no longer needed. */
  swept(frame) {
    const left = this.list.filter((draft) => draft.frame !== frame || !draft.settled);
    if (left.length === this.list.length) return;
    this.list = left;
    this.surface = null;
  }

  /** A canvas with the frame's map and all drafts on it, or null where there are none. */
  layer(frame, id, map, style, locked) {
    const drafts = this.list.filter((draft) => draft.frame === frame);
    if (!drafts.length) return null;
    const key = `${frame} ${id} ${style.key} ${locked.join()}`;
    if (this.surface?.key !== key) {
      const labels = map.labels.slice();
      const layer = new Layer(map.width, map.height);
      const kept = new Set(locked);
      for (const draft of drafts) paintShape(labels, layer.canvas, draft, kept);
      layer.paintLabels(labels, style, [0, 0, map.width, map.height]);
      this.surface = {key, labels, layer, style, kept, drafts};
    }
    return this.surface.layer.canvas;
  }
}

/** What one pixel becomes. Erasing takes away the draft's own object only. */
function writer({label, erase}, kept) {
  if (erase) return (old) => (old === label ? 0 : old);
  return (old) => (old !== label && kept.has(old) ? old : label);
}

function paintShape(labels, size, draft, kept) {
  const {points, radius, box} = draft.shape;
  const write = writer(draft, kept);
  if (box) {
    paintRows(labels, size, box.map(Math.round), write, () => true);
  } else if (radius !== undefined) {
    paintSegment(labels, size, points[0], points[0], radius, write);
    for (let i = 1; i < points.length; i++) paintSegment(labels, size, points[i - 1], points[i], radius, write);
  } else {
    paintPolygon(labels, size, points, write);
  }
}

/** All pixels whose centre is within `radius` of the line from `a` to `b`. Returns the box that they lie in. */
function paintSegment(labels, size, a, b, radius, write) {
  const reach = Math.max(radius, 0.5);
  const box = [
    Math.floor(Math.min(a[0], b[0]) - reach),
    Math.floor(Math.min(a[1], b[1]) - reach),
    Math.ceil(Math.max(a[0], b[0]) + reach),
    Math.ceil(Math.max(a[1], b[1]) + reach),
  ];
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const length = dx * dx + dy * dy;
  return paintRows(labels, size, box, write, (x, y) => {
    const [px, py] = [x + 0.5 - a[0], y + 0.5 - a[1]];
    const along = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
    return (px - along * dx) ** 2 + (py - along * dy) ** 2 <= reach * reach;
  });
}

function paintPolygon(labels, size, points, write) {
  const xs = points.map((point) => point[0]);
  const ys = points.map((point) => point[1]);
  const box = clipped(size, [
    Math.floor(Math.min(...xs)),
    Math.floor(Math.min(...ys)),
    Math.ceil(Math.max(...xs)),
    Math.ceil(Math.max(...ys)),
  ]);
  const [width, height] = [box[2] - box[0], box[3] - box[1]];
  if (width <= 0 || height <= 0) return;
  // The browser's own filling is faster than any loop here.
  const mask = document.createElement("canvas");
  mask.width = width;
  mask.height = height;
  const drawing = mask.getContext("2d", {willReadFrequently: true});
  drawing.translate(-box[0], -box[1]);
  drawing.beginPath();
  for (const [x, y] of points) drawing.lineTo(x, y);
  drawing.fill("evenodd");
  const {data} = drawing.getImageData(0, 0, width, height);
  paintRows(labels, size, box, write, (x, y) => data[4 * ((y - box[1]) * width + x - box[0]) + 3] > 127);
}

function paintRows(labels, size, box, write, inside) {
  const [x0, y0, x1, y1] = clipped(size, box);
  for (let y = y0; y < y1; y++) {
    for (let x = x0, at = y * size.width + x0; x < x1; x++, at++) {
      if (inside(x, y)) labels[at] = write(labels[at]);
    }
  }
  return [x0, y0, x1, y1];
}

function clipped({width, height}, [x0, y0, x1, y1]) {
  return [Math.max(0, x0), Math.max(0, y0), Math.min(width, x1), Math.min(height, y1)];
}

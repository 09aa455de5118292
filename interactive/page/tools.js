// What the pointer does on the frame: brush, eraser, polygon, rectangle, box and clicks. All points are image pixels.

/** In the order of the tool bar. `key` is the shortcut; `hint` is shown beside the tool's options. */
export const TOOLS = [
  {name: "brush", text: "Brush", key: "b", hint: "Drag to paint; right button or Alt erases."},
  {name: "eraser", text: "Eraser", key: "e", hint: "Drag to erase the current object."},
  {name: "polygon", text: "Polygon and lasso", key: "p", hint: "Click corners or drag around; Enter closes."},
  {name: "rectangle", text: "Fill a rectangle", key: "r", hint: "Drag to fill; right button or Alt erases."},
  {name: "box", text: "Box around an object", key: "x", hint: "Drag a box: the object in it is found."},
  {name: "click", text: "Click on an object", key: "c", hint: "Left: belongs to it. Right or Alt: does not."},
];

const NEAR = 10; // screen pixels within which a click hits the polygon's first corner
const MOST_POINTS = 19_000; // of a line that is sent
const STILL = 5; // screen pixels that a press may move and still be a click

export class Tools {
  constructor({state, view, camera, acts, drafts, notice, redraw, settled}) {
    Object.assign(this, {state, view, camera, acts, drafts, notice, redraw, settled});
    this.cursor = null; // the pointer's place, or null while it is elsewhere
    this.active = null; // the press in progress: {kind, frame, label, erase, start, …}
    this.corners = null; // the polygon in progress: {frame, label, erase, points}
    this.pending = []; // boxes and clicks that the segmenter has not answered: {frame, label, box | point}
    view.on(["frame", "label", "tool"], () => this.cancel());
  }

  get busy() {
    return Boolean(this.active || this.corners);
  }

  /** A press begins; `subtract` is the right button or Alt. Says whether the tool took it. */
  down(point, subtract) {
    const {tool: kind, frame, label} = this.view;
    if (!this.#allowed()) return false;
    const erase = subtract || kind === "eraser";
    this.active = {kind, frame, label, erase, start: point, points: [point], far: false};
    if (kind === "brush" || kind === "eraser") {
      const shape = {points: [point], radius: this.view.radius};
      this.active.draft = this.drafts.begin(frame, label, erase, shape);
    }
    this.move(point);
    return true;
  }

  move(point) {
    this.cursor = point;
    const {active} = this;
    if (active) {
      active.far ||= distance(point, active.start) * this.camera.scale > STILL;
      const last = active.points.at(-1);
      if (distance(point, last) * this.camera.scale >= 1) {
        active.points.push(point);
        if (active.draft) this.drafts.extend(active.draft, point);
      }
    }
    this.redraw();
  }

  up(point) {
    this.move(point);
    const {active} = this;
    this.active = null;
    if (active) this[`end_${active.kind}`](active, point);
    this.redraw();
  }

  /** Forgets what is being drawn. Says whether there was anything. */
  cancel() {
    const had = this.busy;
    this.corners = null;
    this.cancelPress();
    return had;
  }

  /** Forgets only the press: a second finger moves the picture, and a polygon's corners stay. */
  cancelPress() {
    if (this.active?.draft) this.drafts.drop(this.active.draft);
    this.active = null;
    this.redraw();
  }

  leave() {
    this.cursor = null;
    this.redraw();
  }

  end_brush({frame, label, erase, points, draft}) {
    const act = {do: "stroke", frame, label, points: sent(points), radius: draft.shape.radius, erase};
    this.drafts.until(draft, this.acts.send(act));
  }

  end_eraser(active) {
    this.end_brush(active);
  }

  end_rectangle({frame, label, erase, start}, point) {
    const box = ordered(start, point);
    if (box[2] - box[0] < 0.5 || box[3] - box[1] < 0.5) return;
    const draft = this.drafts.begin(frame, label, erase, {box});
    this.drafts.until(draft, this.acts.send({do: "rectangle", frame, label, box, erase}));
  }

  async end_box({frame, label, start, far}, point) {
    if (far) await this.#asked({frame, label, box: ordered(start, point)}, (box) => ({do: "box", frame, label, box}));
  }

  async end_click({frame, label, erase, far}, [x, y]) {
    if (far) return;
    const click = {frame, label, point: [...rounded([x, y]), !erase]};
    await this.#asked(click, () => ({do: "click", frame, label, x, y, positive: !erase}));
  }

  end_polygon({frame, label, erase, points, far, start}) {
    if (far && !this.corners) {
      // A drag from nothing is a lasso: it is closed where it ends.
      this.corners = {frame, label, erase, points};
      this.closePolygon();
    } else if (far) {
      this.corners.points.push(...points);
    } else if (this.corners && distance(start, this.corners.points[0]) * this.camera.scale < NEAR) {
      this.closePolygon();
    } else {
      this.corners ??= {frame, label, erase, points: []};
      this.corners.points.push(start);
    }
  }

  /** Fills the polygon in progress. Says whether there was one. */
  closePolygon() {
    const {corners} = this;
    if (!corners) return false;
    this.corners = null;
    const {frame, label, erase, points} = corners;
    if (points.length >= 3) {
      const draft = this.drafts.begin(frame, label, erase, {points});
      this.drafts.until(draft, this.acts.send({do: "polygon", frame, label, points: sent(points), erase}));
    }
    this.redraw();
    return true;
  }

  /** Takes back the polygon's last corner. Says whether there was one. */
  dropCorner() {
    if (!this.corners) return false;
    this.corners.points.pop();
    if (!this.corners.points.length) this.corners = null;
    this.redraw();
    return true;
  }

  async #asked(waiting, act) {
    this.pending.push(waiting);
    this.redraw();
    await this.acts.send(act(waiting.box?.map((value) => rounded([value])[0])));
    this.pending = this.pending.filter((other) => other !== waiting);
    this.redraw();
  }

  /** Whether there is something to draw for; says what is missing. */
  #allowed() {
    const object = this.state.object(this.view.label);
    if (!object) {
      this.notice("info", "Add an object first (N), or choose one in the list at the right.");
    } else if (object.locked) {
      this.notice("info", `“${object.name}” is locked: unlock it (L) to change its mask.`);
    } else if (object.hidden) {
      this.notice("info", `“${object.name}” is hidden: show it (H) to see what you draw.`);
    } else {
      return this.settled();
    }
    return false;
  }

  /** Draws the cursor, what is in progress, and the clicks and boxes that the segmenter got. */
  draw(pen) {
    const {view} = this;
    const colour = this.state.object(view.label)?.colour ?? "#ffffff";
    if (view.tool === "box" || view.tool === "click") this.#drawClicks(pen, colour);
    const {active, corners} = this;
    if (active?.far && (active.kind === "rectangle" || active.kind === "box")) {
      this.#path(pen, corneredBox(ordered(active.start, this.cursor)), colour, true, active.kind === "box");
    }
    if (active?.kind === "polygon" && active.far) this.#path(pen, active.points, colour, false);
    if (corners) this.#drawCorners(pen, corners.points, colour);
    if (this.cursor) this.#drawCursor(pen, colour);
  }

  #drawCursor(pen, colour) {
    const {tool, radius} = this.view;
    const [x, y] = this.camera.toScreen(this.cursor);
    const brush = tool === "brush" || tool === "eraser";
    const size = brush ? Math.max(1.5, radius * this.camera.scale) : 4;
    for (const [width, style] of [[3, "rgb(0 0 0 / 0.65)"], [1.5, "#ffffff"]]) {
      pen.lineWidth = width;
      pen.strokeStyle = style;
      pen.beginPath();
      pen.arc(x, y, size, 0, 2 * Math.PI);
      pen.stroke();
    }
    if (!brush || size > 6) {
      pen.fillStyle = tool === "eraser" ? "#ffffff" : colour;
      pen.beginPath();
      pen.arc(x, y, 1.5, 0, 2 * Math.PI);
      pen.fill();
    }
  }

  #drawCorners(pen, points, colour) {
    const open = this.cursor && !this.active ? [...points, this.cursor] : points;
    this.#path(pen, open, colour, false);
    for (const [index, point] of points.entries()) {
      if (points.length > 60 && index) continue; // a lasso's points are no corners to be seen
      this.#dot(pen, this.camera.toScreen(point), index ? 2.5 : 5, colour);
    }
  }

  #drawClicks(pen, colour) {
    const {frame, label} = this.view;
    const clicks = this.state.now.clicks[`${frame}/${label}`] ?? {points: [], box: null};
    if (clicks.box) this.#path(pen, corneredBox(clicks.box), colour, true, true);
    for (const point of clicks.points) this.#drawClick(pen, point, false);
    for (const waiting of this.pending) {
      if (waiting.frame !== frame || waiting.label !== label) continue;
      if (waiting.box) this.#path(pen, corneredBox(waiting.box), "#ffffff", true, true);
      else this.#drawClick(pen, waiting.point, true);
    }
  }

  /** A plus or a minus, so that it can be told without colour; paler while the segmenter works. */
  #drawClick(pen, [x, y, positive], waiting) {
    const [left, top] = this.camera.toScreen([x, y]);
    pen.globalAlpha = waiting ? 0.6 : 1;
    this.#dot(pen, [left, top], 7, positive ? "#157a3c" : "#c0232c");
    pen.strokeStyle = "#ffffff";
    pen.lineWidth = 2;
    pen.beginPath();
    pen.moveTo(left - 4, top);
    pen.lineTo(left + 4, top);
    if (positive) {
      pen.moveTo(left, top - 4);
      pen.lineTo(left, top + 4);
    }
    pen.stroke();
    pen.globalAlpha = 1;
  }

  #dot(pen, [x, y], radius, colour) {
    pen.fillStyle = colour;
    pen.strokeStyle = "#ffffff";
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
    pen.stroke();
  }

  /** A line that can be seen on any picture: dark below, coloured above. */
  #path(pen, points, colour, closed, dashed = false) {
    const trace = () => {
      pen.beginPath();
      for (const point of points) pen.lineTo(...this.camera.toScreen(point));
      if (closed) pen.closePath();
      pen.stroke();
    };
    pen.lineJoin = "round";
    pen.lineWidth = 4;
    pen.strokeStyle = "rgb(0 0 0 / 0.6)";
    trace();
    pen.lineWidth = 2;
    pen.strokeStyle = colour;
    if (dashed) pen.setLineDash([6, 4]);
    trace();
    pen.setLineDash([]);
  }
}

const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
const rounded = (point) => point.map((value) => Math.round(value * 100) / 100);
/** Points as they are sent: a very long scribble with fewer, since the server takes so many at most. */
function sent(points) {
  const every = Math.ceil(points.length / MOST_POINTS);
  return points.filter((_, place) => place % every === 0 || place === points.length - 1).map(rounded);
}
const ordered = ([ax, ay], [bx, by]) => [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
const corneredBox = ([x0, y0, x1, y1]) => [
  [x0, y0],
  [x1, y0],
  [x1, y1],
  [x0, y1],
];

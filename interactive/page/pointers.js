// Mouse, pen and fingers on the stage: tells the tools of presses, and moves the camera.
// One finger draws and two move; space or the middle button moves with a mouse; the wheel zooms, with Shift or Alt it
// changes the brush.

const GRIP = 9; // screen pixels on each side of the before/after line within which it is taken hold of

export class Pointers {
  /** `spaceHeld()` says whether the space key is down; `dragged()` tells the keys that it was used for moving. */
  constructor({canvas, view, camera, tools, resizeBrush, spaceHeld, dragged, busy}) {
    Object.assign(this, {canvas, view, camera, tools, resizeBrush, spaceHeld, dragged, busy});
    this.fingers = new Map(); // id → place on the screen
    this.doing = null; // "draw", "pan", "pinch", "split" or null
    this.penDown = false;
    const on = (name, call, options) => canvas.addEventListener(name, call.bind(this), options);
    on("pointerdown", this.down);
    on("pointermove", this.move);
    on("pointerup", this.up);
    on("pointercancel", this.cancel);
    on("pointerleave", (event) => event.pointerType !== "touch" && this.doing !== "draw" && tools.leave());
    // A pointer takes the focus from the fields, but gives the canvas no ring: that is for those who come by Tab.
    on("mousedown", (event) => {
      event.preventDefault();
      document.activeElement?.blur();
    });
    on("contextmenu", (event) => event.preventDefault());
    on("dblclick", () => tools.closePolygon());
    on("wheel", this.wheel, {passive: false});
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  down(event) {
    const touch = event.pointerType === "touch";
    if (touch && this.penDown) return; // the hand that holds the pen
    this.canvas.setPointerCapture(event.pointerId);
    const place = this.place(event);
    this.fingers.set(event.pointerId, place);
    if (this.fingers.size === 2 && touch) {
      this.tools.cancelPress();
      this.doing = "pinch";
      return;
    }
    if (this.fingers.size > 1) return;
    this.penDown = event.pointerType === "pen";
    if (event.button === 1 || (event.button === 0 && this.spaceHeld())) {
      event.preventDefault(); // the middle button would start scrolling
      this.dragged();
      this.doing = "pan";
      this.canvas.classList.add("panning");
    } else if (this.#onSplit(place)) {
      this.doing = "split";
    } else if (event.button === 0 || event.button === 2) {
      this.busy();
      const subtract = event.button === 2 || event.altKey;
      this.doing = this.tools.down(this.camera.toImage(place), subtract) ? "draw" : null;
    }
  }

  move(event) {
    const place = this.place(event);
    const before = this.fingers.get(event.pointerId);
    if (!before) {
      this.canvas.classList.toggle("splitting", this.#onSplit(place));
      if (event.pointerType !== "touch") this.tools.move(this.camera.toImage(place));
      return;
    }
    if (this.doing === "pinch") this.#pinch(event.pointerId, place);
    this.fingers.set(event.pointerId, place);
    if (this.doing === "pan") {
      this.camera.pan(place[0] - before[0], place[1] - before[1]);
    } else if (this.doing === "split") {
      this.view.set({split: Math.min(1, Math.max(0, place[0] / this.camera.width))});
    } else if (this.doing === "draw") {
      // A fast hand makes more points than there are events.
      const events = event.getCoalescedEvents?.() ?? [];
      for (const part of events.length ? events : [event]) this.tools.move(this.camera.toImage(this.place(part)));
    }
  }

  up(event) {
    if (!this.fingers.delete(event.pointerId)) return;
    if (event.pointerType === "pen") this.penDown = false;
    if (this.doing === "draw") this.tools.up(this.camera.toImage(this.place(event)));
    // After a pinch the finger that is left must not begin to draw.
    if (this.doing !== "pinch" || !this.fingers.size) this.doing = null;
    this.canvas.classList.remove("panning");
    if (event.pointerType === "touch") this.tools.leave();
  }

  cancel(event) {
    this.fingers.delete(event.pointerId);
    this.penDown = false;
    if (this.doing === "draw") this.tools.cancelPress();
    this.doing = null;
    this.canvas.classList.remove("panning");
  }

  wheel(event) {
    event.preventDefault();
    // With Shift, browsers turn the wheel sideways.
    const turn = (event.deltaY || event.deltaX) * (event.deltaMode === 1 ? 30 : 1);
    if (event.shiftKey || event.altKey) this.resizeBrush(turn < 0 ? 1 : -1);
    else this.camera.zoom(Math.exp(-turn * (event.ctrlKey ? 0.01 : 0.0018)), this.place(event));
  }

  #onSplit([x]) {
    return this.view.compare && Math.abs(x - this.view.split * this.camera.width) <= GRIP;
  }

  #pinch(id, place) {
    const others = [...this.fingers].filter(([other]) => other !== id);
    if (!others.length) return;
    const fixed = others[0][1];
    const before = this.fingers.get(id);
    const apart = (a, b) => Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1]));
    const middle = (a, b) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    const [from, to] = [middle(fixed, before), middle(fixed, place)];
    this.camera.pan(to[0] - from[0], to[1] - from[1]);
    this.camera.zoom(apart(fixed, place) / apart(fixed, before), to);
  }
}

// The section on the current frame, and the fields that its buttons read.

import {find, onEnter, setText} from "./dom.js";

export class FramePanel {
  constructor({state, view, edits}) {
    Object.assign(this, {state, view});
    state.on(["frames", "marks", "video"], () => this.draw());
    view.on(["frame"], () => this.draw());
    const pixels = find("#pixels");
    pixels.value = view.pixels;
    pixels.onchange = () => {
      view.set({pixels: Math.min(200, Math.max(1, Math.round(pixels.valueAsNumber || 1)))});
      pixels.value = view.pixels;
    };
    const largest = find("#largest");
    largest.value = view.largest || "";
    largest.onchange = () => {
      view.set({largest: Math.min(1e7, Math.max(0, Math.round(largest.valueAsNumber || 0)))});
      largest.value = view.largest || "";
    };
    const copied = find("#copy-frame");
    onEnter(copied, () => edits.copy(copied.valueAsNumber));
    for (const field of [copied, find("#erase-first"), find("#erase-last")]) field.max = state.last;
    find("#erase-first").value = 0;
    find("#erase-last").value = state.last;
    const file = find("#import-file");
    file.onchange = () => {
      if (file.files[0]) edits.import(file.files[0]);
      file.value = ""; // so that the same file can be chosen again
    };
    this.draw();
  }

  draw() {
    const {frame} = this.view;
    const entry = this.state.frame(frame);
    const words = [];
    if (this.state.now.video.bad.includes(frame)) words.push("cannot be decoded");
    if (entry?.annotated) words.push("annotated");
    else if (entry?.map) words.push("followed");
    else words.push("no mask");
    if (entry?.permanent) words.push("permanent");
    if (this.state.now.marks.includes(frame)) words.push("marked");
    const share = (value) => `${Math.round(100 * value)} %`;
    if (entry && !entry.annotated && entry.uncertainty !== null) words.push(`uncertainty ${share(entry.uncertainty)}`);
    setText(find("#frame-status"), words.join(", "));
  }
}

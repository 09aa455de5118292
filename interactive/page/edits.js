// The acts that concern the current object or the current frame, as buttons and keys ask for them.

import {find} from "./dom.js";

export class Edits {
  constructor({state, view, acts, notices}) {
    Object.assign(this, {state, view, acts, notices});
  }

  async addObject() {
    const answer = await this.acts.send({do: "add_object"});
    if (answer) this.view.set({label: answer.result});
  }

  async removeObject(label) {
    const {name} = this.state.object(label);
    const answer = await this.acts.send({do: "remove_object", label});
    if (!answer) return;
    const undo = {text: "Undo", run: () => this.acts.send({do: "undo"})};
    this.notices.show("info", `“${name}” and its masks in all frames are removed. Undo brings them back.`, undo);
  }

  /** Changes the current object's `hidden` or `locked`. */
  toggle(property) {
    const object = this.#current();
    if (!object) return;
    const act = property === "hidden" ? "hide_object" : "lock_object";
    this.acts.send({do: act, label: object.label, [property]: !object[property]});
  }

  clean(operation) {
    const object = this.#current();
    if (!object) return;
    const {frame, largest} = this.view;
    const pixels = operation === "grow" || operation === "shrink" ? this.view.pixels : largest;
    this.acts.send({do: "clean", frame, label: object.label, operation, pixels});
  }

  clearObject() {
    const object = this.#current();
    if (object) this.acts.send({do: "clear", frame: this.view.frame, label: object.label});
  }

  clearFrame() {
    this.acts.send({do: "clear", frame: this.view.frame, label: null});
  }

  copy(source) {
    if (!Number.isInteger(source) || source < 0 || source > this.state.last) {
      this.notices.show("info", `Copy from which frame? Give a number from 0 to ${this.state.last}.`);
      return;
    }
    let label = null;
    if (find("#copy-scope").value === "current") {
      const object = this.#current();
      if (!object) return;
      label = object.label;
    }
    this.acts.send({do: "copy", frame: this.view.frame, source, label});
  }

  confirm() {
    this.acts.send({do: "confirm", frame: this.view.frame});
  }

  unannotate() {
    this.acts.send({do: "unannotate", frame: this.view.frame});
  }

  togglePermanent() {
    const {frame} = this.view;
    this.acts.send({do: "set_permanent", frame, permanent: !this.state.frame(frame)?.permanent});
  }

  toggleMark() {
    const {frame} = this.view;
    this.acts.send({do: "mark", frame, marked: !this.state.now.marks.includes(frame)});
  }

  async import(file) {
    const {frame} = this.view;
    if (await this.acts.import(frame, file)) this.notices.say(`“${file.name}” is now the mask of frame ${frame}.`);
  }

  eraseFollowed(first, last) {
    if (!(first >= 0 && last >= first)) {
      this.notices.show("info", "Erase followed masks of which frames? Give the first and the last.");
      return;
    }
    this.acts.send({do: "erase_followed", first, last});
  }

  /** The current object, or null after a word about there being none. */
  #current() {
    const object = this.state.object(this.view.label);
    if (!object) this.notices.show("info", "Add an object first (N), or choose one in the list at the right.");
    return object;
  }
}

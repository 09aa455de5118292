// The list of objects in the panel at the right.

import {find, icon, iconButton, make, onEnter, reconcile, rename, setValue} from "./dom.js";

export class ObjectList {
  constructor({state, view, acts, edits}) {
    Object.assign(this, {state, view, acts, edits});
    this.list = find("#object-list");
    state.on(["objects", "frames"], () => this.draw());
    view.on(["label", "frame"], () => this.draw());
    this.draw();
  }

  draw() {
    const {objects} = this.state.now;
    if (!this.state.object(this.view.label)) {
      // An object that is gone cannot stay the current one; the frame is drawn again through the view.
      this.view.set({label: objects[0]?.label ?? null});
    }
    find("#no-objects").hidden = objects.length > 0;
    const places = new Map(objects.map((object, place) => [object.label, place]));
    reconcile(
      this.list,
      objects,
      (object) => object.label,
      (object) => this.#create(object.label),
      (row, object) => this.#update(row, object, places.get(object.label)),
    );
  }

  #create(label) {
    const act = (name, values) => this.acts.send({do: name, label, ...values});
    const choose = () => this.view.set({label});
    const number = make("button", {type: "button", className: "number", onclick: choose});
    const colour = make("input", {type: "color", className: "swatch"});
    colour.onchange = () => act("colour_object", {colour: colour.value});
    const name = make("input", {type: "text", className: "name", maxLength: 80, spellcheck: false, onfocus: choose});
    name.onchange = () => {
      const given = name.value.trim();
      if (given) act("rename_object", {label, name: given});
      else name.value = this.state.object(label).name;
    };
    onEnter(name, () => name.blur());
    const flip = (property, command) => () => act(command, {[property]: !this.state.object(label)[property]});
    const hide = iconButton("eye", "", flip("hidden", "hide_object"), {className: "icon-button hide"});
    const lock = iconButton("unlock", "", flip("locked", "lock_object"), {className: "icon-button lock"});
    const remove = iconButton("trash", "", () => this.edits.removeObject(label), {className: "icon-button remove"});
    const row = make("li", {data: {label}}, number, colour, name, hide, lock, remove);
    row.addEventListener("click", (event) => event.target === row && choose());
    return row;
  }

  #update(row, object, place) {
    const {name, colour, hidden, locked, label} = object;
    const chosen = label === this.view.label;
    row.classList.toggle("chosen", chosen);
    const here = this.state.frame(this.view.frame)?.areas[label] > 0;
    row.classList.toggle("here", here);
    row.title = here ? "Has a mask in this frame" : "Has no mask in this frame";
    const number = find(".number", row);
    number.textContent = place + 1;
    number.setAttribute("aria-pressed", String(chosen));
    rename(number, `Choose “${name}”`, place < 9 ? String(place + 1) : "");
    setValue(find(".swatch", row), colour);
    find(".swatch", row).setAttribute("aria-label", `Colour of “${name}”`);
    find(".swatch", row).title = "Colour";
    setValue(find(".name", row), name);
    find(".name", row).setAttribute("aria-label", `Name of object ${place + 1}`);
    this.#state(find(".hide", row), hidden, ["eye-off", "eye"], [`Show “${name}”`, `Hide “${name}”`]);
    const locks = [`Unlock “${name}”: its mask may change`, `Lock “${name}”: its mask cannot be changed by edits`];
    this.#state(find(".lock", row), locked, ["lock", "unlock"], locks);
    rename(find(".remove", row), `Remove “${name}” and its masks in all frames; undo brings it back`);
  }

  /** A button with two states: its icon shows the state, its name what pressing does. */
  #state(button, on, icons, texts) {
    const shown = icons[on ? 0 : 1];
    if (button.dataset.shown !== shown) button.replaceChildren(icon(shown));
    button.dataset.shown = shown;
    button.classList.toggle("on", on);
    rename(button, texts[on ? 0 : 1]);
  }
}

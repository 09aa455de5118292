// The memory's panel: how full it is, its permanent frames, and its settings.

import {previewAddress} from "./addresses.js";
import {find, iconButton, inBytes, make, onEnter, reconcile, setText, setValue} from "./dom.js";

export class MemoryPanel {
  constructor({state, acts, player, notices}) {
    Object.assign(this, {state, acts, player, notices});
    state.on(["memory"], () => this.drawMemory());
    state.on(["settings", "setting_notes"], () => this.drawSettings());
    this.drawMemory();
    this.drawSettings();
  }

  drawMemory() {
    const {memory} = this.state.now;
    const gauges = [
      ["sensory", "Sensory", counted(memory.sensory_objects, "object"), null],
      ["working", "Working", ...filled(memory.working_frames, memory.working_capacity, "frames",
        `${count(memory.working_elements)} elements`)],
      ["long_term", "Long-term", ...filled(memory.long_term_elements, memory.long_term_capacity, "elements")],
      ["permanent", "Permanent", counted(memory.permanent.length, "frame"), null],
    ];
    reconcile(find("#gauges"), gauges, ([key]) => key, createGauge, updateGauge);
    const device = memory.device_bytes === null ? "" : ` The device has ${inBytes(memory.device_bytes)} in use.`;
    setText(find("#memory-bytes"), `${inBytes(memory.bytes)} in all.${device}`);
    find("#no-permanent").hidden = memory.permanent.length > 0;
    reconcile(find("#permanent-list"), memory.permanent, (frame) => frame, (frame) => this.#thumb(frame), () => {});
  }

  #thumb(frame) {
    const picture = make("img", {src: previewAddress(frame), alt: "", loading: "lazy", decoding: "async"});
    const go = make("button", {type: "button", className: "thumb", onclick: () => this.player.go(frame)}, picture,
      make("span", {textContent: `Frame ${frame}`}));
    const remove = () => this.acts.send({do: "set_permanent", frame, permanent: false});
    const text = `Remove frame ${frame} from the permanent memory`;
    return make("li", {data: {frame}}, go, iconButton("close", text, remove));
  }

  drawSettings() {
    const {setting_notes: notes, settings} = this.state.now;
    reconcile(find("#settings"), notes, ({name}) => name, (note) => this.#setting(note), (row, {name}) => {
      setValue(find("input", row), settings[name]);
    });
  }

  #setting({name, label, note, least, most}) {
    const id = `setting-${name}`;
    const input = make("input", {id, "aria-describedby": `${id}-note`, data: {setting: name}});
    Object.assign(input, {type: "number", min: least, max: most, step: 1});
    input.onchange = async () => {
      const wanted = input.valueAsNumber;
      const refused = Number.isNaN(wanted) || !input.checkValidity();
      if (refused) this.notices.show("info", `“${label}” is a number from ${least} to ${most}.`);
      const answer = refused ? null : await this.acts.send({do: "change_settings", [name]: wanted});
      if (!answer) input.value = this.state.now.settings[name];
    };
    onEnter(input, () => input.blur());
    return make("div", {className: "setting"}, make("label", {htmlFor: id, textContent: label}), input,
      make("p", {id: `${id}-note`, className: "quiet", textContent: note}));
  }
}

const counted = (value, unit) => `${count(value)} ${unit}${value === 1 ? "" : "s"}`;
const count = (value) => (value ?? 0).toLocaleString("en");

/** The words of a gauge and how full it is. */
function filled(value, capacity, unit, more = "") {
  const words = [capacity ? `${count(value)} of ${count(capacity)} ${unit}` : `${count(value)} ${unit}`, more];
  return [words.filter(Boolean).join(", "), capacity ? Math.min(1, value / capacity) : null];
}

function createGauge([key, title]) {
  const meter = make("meter", {min: 0, max: 1, "aria-label": `${title} memory`});
  const text = make("span", {className: "quiet"});
  return make("div", {className: "gauge", data: {gauge: key}}, make("span", {textContent: title}), text, meter);
}

function updateGauge(row, [, , text, share]) {
  setText(find(".quiet", row), text);
  const meter = find("meter", row);
  meter.hidden = share === null;
  meter.value = share ?? 0;
  meter.setAttribute("aria-valuetext", text);
}

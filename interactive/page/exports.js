// The panel of exports: what can be written, for which objects and frames, and what has been.

import {find, findAll, icon, iconButton, inBytes, make, reconcile, setText} from "./dom.js";

const KINDS = [
  ["davis", "DAVIS folders", "One indexed PNG for each frame, in the palette of DAVIS, and a list of videos."],
  ["youtube", "YouTube-VOS folders", "Indexed PNGs with a meta.json of objects and their frames."],
  ["overlay", "Overlay video", "The video with coloured masks, to look at and to show."],
  ["alpha_png", "Cut-out pictures", "PNGs of the objects with a transparent background."],
  ["alpha_video", "Cut-out video", "A video of the objects with a transparent background."],
  ["binary", "Binary masks", "One black and white PNG for each object and frame."],
  ["soft", "Soft masks", "The probabilities that following gave, as NumPy files."],
  ["coco", "COCO JSON", "One JSON file with run-length masks, boxes and areas."],
  ["memory", "Memory file", "All that is remembered of the objects, to go on in a Python program."],
];

export class ExportPanel {
  constructor({state, acts, notices}) {
    Object.assign(this, {state, acts, notices});
    this.list = find("#exports");
    this.first = find("#export-first");
    this.last = find("#export-last");
    this.which = find("#export-objects");
    this.choice = find("#export-choice");
    this.first.value = 0;
    this.last.value = state.last;
    this.first.max = this.last.max = state.last;
    this.which.onchange = () => this.drawChoice();
    this.#drawKinds();
    state.on(["exports"], () => this.draw());
    state.on(["objects"], () => this.drawChoice());
    this.draw();
    this.drawChoice();
  }

  #drawKinds() {
    for (const [kind, title, text] of KINDS) {
      const button = make("button", {type: "button", className: "small", data: {export: kind}}, "Export");
      button.setAttribute("aria-label", `Export: ${title}`);
      button.onclick = () => this.#start(kind);
      const about = make("p", {className: "quiet", textContent: text});
      const words = make("div", {}, make("strong", {textContent: title}), about);
      find("#export-kinds").append(make("li", {}, words, button));
    }
  }

  drawChoice() {
    this.choice.hidden = this.which.value === "all";
    const create = ({label}) =>
      make("label", {}, make("input", {type: "checkbox", checked: true, value: label}), make("span"));
    reconcile(this.choice, this.state.now.objects, ({label}) => label, create, (row, {name}) => {
      setText(find("span", row), name);
    });
  }

  async #start(kind) {
    const [first, last] = [this.first.valueAsNumber, this.last.valueAsNumber];
    const most = this.state.last;
    if (!Number.isInteger(first) || !Number.isInteger(last) || first < 0 || last > most || first > last) {
      this.notices.show("info", `Export which frames? The first and the last are numbers from 0 to ${most}.`);
      return;
    }
    let objects = null;
    if (this.which.value === "chosen") {
      objects = findAll("input:checked", this.choice).map((input) => Number(input.value));
      if (!objects.length) return this.notices.show("info", "Choose at least one object to export.");
    }
    this.asked = true;
    if (!(await this.acts.send({do: "export", kind, objects, first, last}))) this.asked = false;
  }

  draw() {
    const {exports} = this.state.now;
    find("#exports-section").hidden = !exports.length;
    // The newest is the one that was just asked for.
    const newest = [...exports].reverse();
    const grown = newest.length > this.list.childElementCount;
    reconcile(this.list, newest, ({name}) => name, (item) => this.#create(item), updateExport);
    if (grown && this.asked) {
      // What was asked for in this window is brought into sight once.
      this.asked = false;
      find("#panel-export").scrollTo({top: 0, behavior: "smooth"});
    }
  }

  #create({name, kind}) {
    const title = KINDS.find((row) => row[0] === kind)?.[1] ?? kind;
    const link = make("a", {className: "button small", download: "", href: `/api/exports/${encodeURIComponent(name)}`},
      icon("download"), "Download");
    link.setAttribute("aria-label", `Download ${name}`);
    const remove = iconButton("trash", `Remove the export ${name}`, () => this.acts.send({do: "remove_export", name}));
    return make("li", {data: {name}},
      make("div", {className: "title-row"}, make("strong", {textContent: title}), link, remove),
      make("progress", {max: 1, "aria-label": `Progress of ${name}`}),
      make("p", {className: "quiet about", role: "status"}),
      make("ul", {className: "notes quiet"}),
      make("p", {className: "error", hidden: true}));
  }
}

function updateExport(row, {name, size, progress, error, notes}) {
  const done = progress >= 1 && !error;
  find("a", row).hidden = !done;
  const bar = find("progress", row);
  bar.hidden = done || Boolean(error);
  bar.value = progress;
  const state = done ? ` · ${inBytes(size)}` : error ? "" : ` · ${Math.round(100 * progress)} %`;
  setText(find(".about", row), name + state);
  find(".notes", row).replaceChildren(...notes.map((note) => make("li", {textContent: note})));
  const failed = find(".error", row);
  failed.hidden = !error;
  setText(failed, error ?? "");
}

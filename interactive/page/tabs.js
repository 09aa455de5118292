// The tabs of the panel at the right.

import {find, findAll} from "./dom.js";

export class Tabs {
  constructor({view}) {
    this.view = view;
    this.tabs = findAll("[role=tab]");
    for (const [place, tab] of this.tabs.entries()) {
      tab.onclick = () => view.set({tab: tab.dataset.tab});
      tab.onkeydown = (event) => {
        const by = {ArrowRight: 1, ArrowLeft: -1}[event.key];
        if (!by) return;
        event.preventDefault();
        const next = this.tabs[(place + by + this.tabs.length) % this.tabs.length];
        view.set({tab: next.dataset.tab});
        next.focus();
      };
    }
    view.on(["tab"], () => this.draw());
    this.draw();
  }

  draw() {
    for (const tab of this.tabs) {
      const chosen = tab.dataset.tab === this.view.tab;
      tab.setAttribute("aria-selected", String(chosen));
      // One stop for the Tab key; the arrows go from tab to tab.
      tab.tabIndex = chosen ? 0 : -1;
      find(`#${tab.getAttribute("aria-controls")}`).hidden = !chosen;
    }
  }
}

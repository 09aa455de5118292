// Following: its buttons' acts, and how far it is.

import {find, inTime, setText} from "./dom.js";

export class Following {
  constructor({state, view, acts, player}) {
    Object.assign(this, {state, view, acts, player});
    const until = find("#until");
    until.value = view.until;
    until.onchange = () => view.set({until: until.value});
    state.on(["following", "network"], () => this.draw());
    view.on(["frame"], () => this.draw());
  }

  /** Whether following can be asked for at all. */
  get possible() {
    return !this.state.now.network.error && this.state.now.objects.length > 0;
  }

  follow(direction) {
    return this.#send(direction, this.view.until);
  }

  /** Follows a single frame. */
  step() {
    return this.#send("forward", "step");
  }

  #send(direction, until) {
    this.player.pause();
    return this.acts.send({do: "follow", frame: this.view.frame, direction, until});
  }

  #atRest() {
    const {followed} = this.state.now;
    if (!followed?.frames) return `From frame ${this.view.frame}`;
    const rate = (followed.frames / followed.seconds).toFixed(1);
    return `From frame ${this.view.frame} · last: ${followed.frames} frames, ${rate}/s`;
  }

  pause() {
    this.acts.send({do: "pause"});
  }

  draw() {
    const {following, network} = this.state.now;
    document.body.dataset.following = String(Boolean(following));
    const error = find("#network-error");
    error.hidden = !network.error;
    setText(error, network.error ? `Following is not possible: ${network.error}` : "");
    const progress = find("#follow-progress");
    progress.classList.toggle("idle", !following);
    progress.max = following?.total || 1;
    progress.value = following?.done ?? 0;
    find("#live").hidden = !following || this.player.live;
    setText(find("#follow-status"), following ? this.#words(following) : this.#atRest());
  }

  #words({frame, done, total, direction, fps, left}) {
    const parts = [`${direction === "forward" ? "→" : "←"} frame ${frame}`, `${done} of ${total}`];
    if (fps) parts.push(`${fps < 10 ? fps.toFixed(1) : Math.round(fps)} frames/s`);
    if (left !== null && left !== undefined) parts.push(`${inTime(left)} left`);
    return parts.join(" · ");
  }
}

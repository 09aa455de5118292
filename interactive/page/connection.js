// The live connection: events from the server, and the banner's words while there is none.

const RETRY = 1000; // milliseconds

export class Connection {
  /**
   * `state` receives whole states and patches; `notice(level, text)` shows what the server has to say; `banner(text)`
   * shows a lasting line, or hides it for null; `back(state, before)` is told of a reconnection.
   */
  constructor({state, notice, banner, back}) {
    Object.assign(this, {state, notice, banner, back});
    this.alive = false;
    this.open();
  }

  open() {
    const address = new URL("/api/events", location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(address);
    this.socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    this.socket.onclose = () => this.lost();
  }

  receive(message) {
    if (message.type === "state") {
      const before = this.state.now;
      this.alive = true;
      this.banner(null);
      this.state.replace(message.state);
      if (before) this.back(message.state, before);
    } else if (message.type === "patch") {
      this.state.patch(message.patch);
    } else if (message.type === "notice") {
      this.notice(message.level, message.text);
    }
  }

  async lost() {
    this.alive = false;
    const status = await fetch("/api/state", {method: "GET", cache: "no-store"}).then((r) => r.status, () => 0);
    // A web socket does not say why it was refused; a plain request does.
    if (status === 403) this.banner(FORBIDDEN);
    else this.banner(this.state.now ? LOST : UNREACHED);
    setTimeout(() => this.open(), RETRY);
  }
}

export const FORBIDDEN =
  "This window is not allowed to talk to the program: its key is missing or has changed, perhaps because the program " +
  "was started again. Open the address that the program printed in its terminal; it has the key.";
export const LOST =
  "The connection to the program is lost. Trying again every second. All that was saved is kept; what you do now is " +
  "not done.";
const UNREACHED = "The program does not answer. Trying again every second.";

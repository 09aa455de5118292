// Where pictures and masks are fetched from.
//
// The server lets browsers keep them for good, but another video or workspace may be served at the same address later.
// So each visit, and each connection, asks under a name of its own.

let visit = newName();

function newName() {
  return Math.random().toString(36).slice(2, 10);
}

/** Leaves behind all that was fetched: after a lost connection it may be another program that answers. */
export function renewAddresses() {
  visit = newName();
}

export const frameAddress = (frame, side) => `/api/frames/${frame}.jpg?visit=${visit}${side ? `&side=${side}` : ""}`;
export const previewAddress = (frame) => `/api/previews/${frame}.jpg?visit=${visit}`;
export const mapAddress = (id) => `/api/maps/${encodeURIComponent(id)}?visit=${visit}`;

/** The number of the frame that an address shows. */
export const frameOf = (address) => Number(/\/(\d+)\.jpg/.exec(address)[1]);

// Our own Pong: the rules of pgcourse/environments/court.py, integer for integer, the lecture's network, and the page that plays with both.
const [DOWN, UP, NOOP] = [0, 1, 2], PUSH = [1, -1, 0];
const clip = (value, low, high) => Math.min(Math.max(value, low), high);

class Court {
  constructor(seed = 0, idle = null) { // idle: frames, below 32, that pass before the first decision
    this.random = seed >>> 0;
    this.begin(idle);
    this.drawn = this.pixels();
  }

  begin(idle = null) {
    this.random = Math.imul(this.random, 2654435769) + 1013904223 >>> 0;
    idle ??= this.random >>> 27;
    const knob = (27450 + 790196) / 2;
    Object.assign(this, {x: 0, y: 0, vx: -1, vy: 1, left: 0, right: 109, wait: 59 - idle, clock: 71 + idle, idle});
    Object.assign(this, {knobs: [knob, knob], next: [109, 109], points: [0, 0], reward: 0, done: false});
  }

  advance(right, left = null) { // by one frame, with the actions of both sides; without a left player the opponent plays
    const {x, y} = this, shown = this.right + (this.right & 1);
    const hitLeft = x >= 64 && x <= 68 && y >= this.left - 4 && y <= this.left + 14;
    const hitRight = x >= 188 && x <= 192 && y >= shown - 2 && y <= shown + 15;
    if (hitLeft || hitRight) {
      this.vx = hitLeft ? 1 : -1;
      this.vy = (y - (hitLeft ? this.left : this.right) + 3 >> 2) - 2;
    }
    const waiting = this.wait > 0, wall = !waiting && (y <= 45 || y >= 206);
    if (wall) this.vy = -this.vy;
    const out = waiting ? 0 : (x <= 52) - (x >= 205);
    this.wait = out ? 63 : this.wait - waiting;
    if (waiting && !this.wait) {
      this.x = this.y = this.left = 128;
      this.vy = this.vy < 0 ? -1 : 1;
    }
    if (!this.wait) {
      this.x += this.vx;
      this.y += this.vy + wall * Math.sign(this.vy);
    } else if (waiting) this.y = 0;
    this.clock += 1;
    if (left !== null) this.left = this.next[0] + (this.next[0] & 1);
    this.right = this.next[1];
    [left, right].forEach((action, side) => action !== null && this.turn(side, PUSH[action]));
    if (left === null && this.clock % 8 !== 1) this.left += 2 * Math.sign(this.y - this.left);
    this.reward += out;
  }

  turn(side, push) {
    this.knobs[side] = clip(this.knobs[side] + 23000 * push, 27450, 790196);
    if (this.clock % 2 === 0) this.next[side] = this.next[side] + clip(2 * Math.floor((this.knobs[side] + 31400) / 7990), 38, 204) >> 1;
  }

  settle() { // after the four frames of a decision: return its reward, whether the game is over, and the difference frame
    const {reward} = this, before = this.drawn;
    if (reward) this.points[reward > 0 ? 1 : 0] += 1;
    this.reward = 0;
    this.score = [...this.points];
    const done = Math.max(...this.points) === 21;
    if (done) this.begin();
    this.drawn = this.pixels();
    const missing = other => pixel => !done && !other.has(pixel);
    return {reward, done, plus: [...this.drawn].filter(missing(before)), minus: [...before].filter(missing(this.drawn))};
  }

  decide(right, left = null) {
    for (let frame = 0; frame < 4; frame++) this.advance(right, left);
    return this.settle();
  }

  pixels() { // the numbers of those that are 1
    const found = new Set(), add = (row, column) => row >= 0 && row < 80 && found.add(80 * row + column);
    for (let i = -25; i < -16; i++) for (const column of [8, 9]) add((this.left >> 1) + i, column);
    for (let i = -24; i < -16; i++) for (const column of [70, 71]) add((this.right + 1 >> 1) + i, column);
    for (const column of [this.x - 49, this.x - 48])
      for (const i of [column < 152 ? -48 : -49, -47, column < 130 ? -45 : -46]) add(this.y + i >> 1, column >> 1);
    return found;
  }
}

const HALVES = new Float32Array(65536).map((_, h) =>
  (h >> 15 ? -1 : 1) * (h >> 10 & 31 ? 2 ** ((h >> 10 & 31) - 25) * (1024 + (h & 1023)) : 2 ** -24 * (h & 1023)));

class Network { // h = max(0, W₁x + b₁), π(UP∣x) = σ(w₂·h + b₂); the buffer is a recorded policy, safetensors of float16
  constructor(buffer) {
    const size = Number(new DataView(buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
    for (const [name, {data_offsets}] of Object.entries(header)) {
      if (!data_offsets) continue;
      const [from, to] = data_offsets.map(offset => 8 + size + offset);
      this[name.split(".").pop()] = Float32Array.from(new Uint16Array(buffer.slice(from, to)), h => HALVES[h]);
    }
  }

  probability({plus, minus}) {
    const {W1, b1, w2, b2} = this, h = Float64Array.from(b1), n = h.length;
    for (const [pixels, sign] of [[plus, 1], [minus, -1]])
      for (const pixel of pixels) for (let j = 0; j < n; j++) h[j] += sign * W1[n * pixel + j];
    return 1 / (1 + Math.exp(-h.reduce((sum, value, j) => sum + w2[j] * Math.max(0, value), b2[0])));
  }
}

class Page { // the page Play: the elements of a div, by their data-court
  constructor(root) {
    this.of = Object.fromEntries([...root.querySelectorAll("[data-court]")].map(e => [e.dataset.court, e]));
    const {play, stop, age, watch, record, slow, download, field} = this.of;
    Object.assign(this, {keys: new Set(), pointer: null, rows: [], pause: true});
    slow.checked = matchMedia("(prefers-reduced-motion: reduce)").matches;
    play.onclick = () => this.start();
    stop.onclick = () => this.toggle();
    download.onclick = () => this.save();
    for (const choice of [age, watch, record]) choice.onchange = () => this.court && this.start(); // a game has one of each
    field.onkeydown = field.onkeyup = event => this.press(event);
    field.onblur = () => this.keys.clear();
    field.onpointerdown = field.onpointermove = event => { this.pointer = event; };
    field.onpointerup = field.onpointerleave = field.onpointercancel = () => { this.pointer = null; };
    document.addEventListener("visibilitychange", () => document.hidden && !this.pause && this.toggle());
  }
  async start() {
    const {play, age, field, score, download} = this.of;
    this.pause = play.disabled = true;
    this.say("Loading the network…");
    const load = fetch(age.value).then(response => response.ok ? response.arrayBuffer() : Promise.reject());
    this.network = await load.then(buffer => new Network(buffer), () => null);
    play.disabled = false;
    if (!this.network) return this.say("The network could not be loaded. Try again.");
    this.court = new Court(crypto.getRandomValues(new Uint32Array(1))[0]);
    Object.assign(this, {frame: 0, due: 0, game: 0, up: 0.5, seen: {plus: [], minus: []}, rows: []});
    score.textContent = "0 : 0";
    download.hidden = true;
    field.focus();
    field.scrollIntoView({block: "center"});
    this.toggle();
  }
  toggle() {
    if (!this.court) return;
    this.pause = !this.pause;
    Object.assign(this.of.stop, {textContent: this.pause ? "Go on" : "Pause", disabled: false});
    this.say(this.pause ? "Paused." : "The game is on.");
    this.last = performance.now();
    if (!this.pause) requestAnimationFrame(now => this.tick(now));
  }
  press(event) {
    const action = {ArrowUp: UP, w: UP, ArrowDown: DOWN, s: DOWN, " ": NOOP}[event.key], down = event.type === "keydown";
    if (action === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (action === NOOP) return down && !event.repeat && this.toggle();
    this.keys[down ? "add" : "delete"](action);
  }
  mine() { // the reader's action; a pointer pulls the middle of the paddle
    if (this.keys.size === 1) return [...this.keys][0];
    if (!this.pointer) return NOOP;
    const box = this.of.field.getBoundingClientRect(), middle = this.court.left - 41;
    const above = middle - 160 * (this.pointer.clientY - box.top) / box.height;
    return Math.abs(above) < 6 ? NOOP : above > 0 ? UP : DOWN;
  }
  tick(now) {
    if (this.pause) return;
    this.due = Math.min(this.due + (now - this.last) * (this.of.slow.checked ? 0.03 : 0.06), 8); // frames of the game
    this.last = now;
    for (; this.due >= 1 && !this.pause; this.due--) this.step();
    this.draw();
    requestAnimationFrame(now => this.tick(now));
  }
  step() {
    const {court, of: {watch, record, score}} = this, first = this.frame % 4 === 0;
    if (first) this.up = this.network.probability(this.seen);
    if (first) this.actions = [Math.random() < this.up ? UP : DOWN, watch.checked ? null : this.mine()];
    court.advance(...this.actions);
    if (++this.frame % 4) return;
    const {idle} = court, {reward, done} = this.seen = court.settle();
    if (record.checked && !watch.checked) this.rows.push([this.game, idle, ...this.actions, this.up.toFixed(6), -reward]);
    if (reward) score.textContent = court.score.join(" : ");
    if (!done) return;
    this.game += 1;
    this.toggle();
    this.say(`The game is over. ${court.score[0] === 21 ? "The left side" : "The network"} has won.`);
  }
  draw() {
    const {court, seen, of: {field, sees, up, download}} = this, [g, s] = [field, sees].map(canvas => canvas.getContext("2d"));
    const fill = (c, colour, ...box) => { c.fillStyle = colour; c.fillRect(...box); };
    fill(g, "#222", 0, 0, 160, 160);
    fill(g, "#e69f00", 16, court.left - 49, 4, 16);
    fill(g, "#56b4e9", 140, court.right - 48, 4, 16);
    fill(g, "#fff", court.x - 49, court.y - 48, 2, 4);
    fill(s, "#222", 0, 0, 80, 80);
    for (const [colour, pixels] of [["#56b4e9", seen.plus], ["#e69f00", seen.minus]])
      for (const pixel of pixels) fill(s, colour, pixel % 80, Math.floor(pixel / 80), 1, 1);
    up.value = this.up;
    up.nextElementSibling.value = this.up.toFixed(2);
    download.hidden = !this.rows.length;
  }
  save() {
    const text = ["game,idle,right,left,p_up,reward", ...this.rows].join("\n");
    const href = URL.createObjectURL(new Blob([`${text}\n`], {type: "text/csv"}));
    Object.assign(document.createElement("a"), {href, download: "my-game.csv"}).click();
  }
  say(text) { this.of.status.textContent = text; }
}

document.querySelectorAll(".court").forEach(root => { root.page = new Page(root); });

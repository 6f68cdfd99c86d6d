// Surfaces, drawn with a depth buffer into a plain canvas: works where WebGL does not.
(() => {
  const scenes = [...document.querySelectorAll("canvas.scene")];
  if (!scenes.length) return;
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  const meshes = new Map();
  const view = { turn: 0.6, tilt: 0.35, zoom: 1 };
  let volume = 0, spinning = !matchMedia("(prefers-reduced-motion: reduce)").matches;

  function parts(side) {
    const key = volume + side;
    if (!meshes.has(key)) {
      const packed = (report.viewers[volume].surfaces || {})[side] || [];
      meshes.set(key, packed.map((part) => ({
        kind: part.kind,
        codes: report.legend.kinds.find((kind) => kind.name === part.kind).codes,
        points: new Int16Array(bytes(part.points)),
        normals: new Int8Array(bytes(part.normals)),
        colours: new Uint8Array(bytes(part.colours)),
        radius: part.radius,
        triangles: part.wide ? new Uint32Array(bytes(part.triangles)) : new Uint16Array(bytes(part.triangles)),
      })));
    }
    return meshes.get(key);
  }

  // The farthest point from the middle, of all that can be shown: it fits the picture.
  function reach() {
    return Math.max(1, ...scenes.flatMap((canvas) => parts(canvas.dataset.side).map((part) => part.radius)));
  }

  // Each colour from its shadow to its highlight.
  const SHADES = 64;
  const palette = report.legend.colours.map((colour) => Array.from({ length: SHADES }, (_, i) => {
    const light = 1.7 * i / (SHADES - 1);
    return colour.map((part) => light < 1 ? part * (0.15 + 0.85 * light) : part + (255 - part) * (light - 1) * 0.7);
  }));

  // The largest class is see-through while others are shown.
  function draw(canvas) {
    const shown = parts(canvas.dataset.side).filter((part) => part.codes.some((code) => viewer.shown.codes[code]));
    const wide = Math.min(640, Math.max(200, Math.round(canvas.clientWidth * Math.min(devicePixelRatio, 1.5))));
    const high = Math.round(wide * 0.75);
    if (canvas.width !== wide) { canvas.width = wide; canvas.height = high; }
    const context = canvas.getContext("2d");
    const picture = context.createImageData(wide, high);
    const depth = new Float32Array(wide * high).fill(Infinity);
    shown.forEach((part, at) => raster(part, picture, wide, high, depth, at === 0 && shown.length > 1));
    context.putImageData(picture, 0, 0);
  }

  function raster({ points, normals, colours, triangles }, picture, wide, high, depth, glass) {
    const count = colours.length;
    const [ct, st, cp, sp] = [Math.cos(view.turn), Math.sin(view.turn), Math.cos(view.tilt), Math.sin(view.tilt)];
    const scale = high * 0.46 * view.zoom / reach();
    const px = new Float32Array(count), py = new Float32Array(count), pz = new Float32Array(count), shade = new Float32Array(count);
    for (let i = 0, j = 0; i < count; i++, j += 3) {
      const x = points[j] * ct + points[j + 2] * st, deep = points[j + 2] * ct - points[j] * st;
      const y = points[j + 1] * cp - deep * sp, z = deep * cp + points[j + 1] * sp;
      const grow = 1 / (1 + z / 160000);
      px[i] = wide / 2 + x * scale * grow;
      py[i] = high / 2 + y * scale * grow;
      pz[i] = z;
      const nx = (normals[j] * ct + normals[j + 2] * st) / 127, nd = (normals[j + 2] * ct - normals[j] * st) / 127;
      const ny = normals[j + 1] / 127 * cp - nd * sp, nz = nd * cp + normals[j + 1] / 127 * sp;
      const lit = Math.max(0, -0.45 * nx - 0.55 * ny - 0.7 * nz), rim = Math.max(0, -nz);
      shade[i] = Math.min(SHADES - 1, (0.18 + 0.62 * lit + 0.2 * rim) * SHADES);
    }
    const out = picture.data;
    for (let t = 0; t < triangles.length; t += 3) {
      const a = triangles[t], b = triangles[t + 1], c = triangles[t + 2];
      const ax = px[a], ay = py[a], bx = px[b] - ax, by = py[b] - ay, cx = px[c] - ax, cy = py[c] - ay;
      const area = bx * cy - by * cx;
      if (area === 0) continue;
      const left = Math.max(0, Math.ceil(Math.min(ax, px[b], px[c]) - 0.5)), right = Math.min(wide - 1, Math.floor(Math.max(ax, px[b], px[c]) + 0.5));
      const top = Math.max(0, Math.ceil(Math.min(ay, py[b], py[c]) - 0.5)), bottom = Math.min(high - 1, Math.floor(Math.max(ay, py[b], py[c]) + 0.5));
      const colour = palette[colours[a]];
      for (let y = top; y <= bottom; y++) {
        for (let x = left; x <= right; x++) {
          if (glass && ((x & 1) || (y & 1))) continue;
          const u = ((x - ax) * cy - (y - ay) * cx) / area, v = ((y - ay) * bx - (x - ax) * by) / area;
          if (u < -0.001 || v < -0.001 || u + v > 1.001) continue;
          const z = pz[a] + u * (pz[b] - pz[a]) + v * (pz[c] - pz[a]);
          const at = y * wide + x;
          if (z >= depth[at]) continue;
          depth[at] = z;
          const light = shade[a] + u * (shade[b] - shade[a]) + v * (shade[c] - shade[a]);
          const rgb = colour[Math.max(0, Math.min(SHADES - 1, light | 0))];
          out[at * 4] = rgb[0]; out[at * 4 + 1] = rgb[1]; out[at * 4 + 2] = rgb[2]; out[at * 4 + 3] = 255;
        }
      }
    }
  }

  // At once when idle, else once the present drawing has had its time.
  let timer = 0, drawn = 0;
  function paint() {
    timer = 0;
    drawn = performance.now();
    scenes.forEach(draw);
    const state = `${view.turn.toFixed(3)} ${view.tilt.toFixed(3)}`;
    scenes.forEach((canvas) => { canvas.dataset.view = state; });
  }
  function redraw() {
    if (timer) return;
    if (performance.now() - drawn > 30) paint();
    else timer = setTimeout(paint, 16);
  }
  let seen = true, last = 0;
  if ("IntersectionObserver" in window) {
    new IntersectionObserver((found) => { seen = found.some((one) => one.isIntersecting); }).observe(document.getElementById("surface"));
  }
  function turn(now) {
    if (spinning && seen && now - last > 33) {
      view.turn += Math.min(0.05, (now - last) * 0.0005);
      last = now;
      redraw();
    }
    requestAnimationFrame(turn);
  }
  const spin = document.getElementById("spin");
  function setSpin(on) {
    spinning = on;
    spin.textContent = on ? "Stop turning" : "Turn";
    spin.setAttribute("aria-pressed", String(on));
  }
  spin.addEventListener("click", () => setSpin(!spinning));
  scenes.forEach((canvas) => {
    const fingers = new Map();
    let span = 0;
    const apart = () => {
      const [a, b] = [...fingers.values()];
      return Math.hypot(a[0] - b[0], a[1] - b[1]);
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      span = fingers.size === 2 ? apart() : 0;
      setSpin(false);
    });
    canvas.addEventListener("pointermove", (event) => {
      const from = fingers.get(event.pointerId);
      if (!from) return;
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (fingers.size === 2) {
        const now = apart();
        view.zoom = Math.max(0.4, Math.min(6, view.zoom * now / (span || now)));
        span = now;
      } else {
        view.turn += (event.clientX - from[0]) * 0.01;
        view.tilt = Math.max(-1.5, Math.min(1.5, view.tilt + (event.clientY - from[1]) * 0.01));
      }
      redraw();
    });
    ["pointerup", "pointercancel"].forEach((kind) => canvas.addEventListener(kind, (event) => fingers.delete(event.pointerId)));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      view.zoom = Math.max(0.4, Math.min(6, view.zoom * (event.deltaY > 0 ? 0.92 : 1.09)));
      redraw();
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
      if (!moves[event.key]) return;
      event.preventDefault();
      setSpin(false);
      view.turn += moves[event.key][0];
      view.tilt += moves[event.key][1];
      redraw();
    });
  });
  if (viewer) viewer.listeners.push((index) => { volume = index; redraw(); });
  addEventListener("resize", redraw);
  setSpin(spinning);
  redraw();
  requestAnimationFrame(turn);
})();
if (viewer) viewer.show(0).then(() => { root.dataset.ready = "yes"; });
else root.dataset.ready = "yes";

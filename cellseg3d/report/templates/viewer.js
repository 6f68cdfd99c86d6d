// Three planes of a volume, cut from a picture of all its slices.
const viewer = (() => {
  if (!report.viewers.length) return null;
  const planes = [...document.querySelectorAll(".plane")];
  const letters = ["z", "y", "x"];
  const loaded = [];
  const place = [0, 0, 0];
  const listeners = [];
  let current = 0;

  function pixels(address, info) {
    return new Promise((resolve, reject) => {
      const picture = new Image();
      picture.onload = () => {
        const canvas = document.createElement("canvas");
        canvas.width = picture.width;
        canvas.height = picture.height;
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(picture, 0, 0);
        const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
        const [depth, height, width] = info.shape;
        const values = new Uint8Array(depth * height * width);
        for (let z = 0; z < depth; z++) {
          const left = (z % info.columns) * width;
          const top = Math.floor(z / info.columns) * height;
          for (let y = 0; y < height; y++) {
            let from = ((top + y) * canvas.width + left) * 4;
            let to = (z * height + y) * width;
            for (let x = 0; x < width; x++, from += 4) values[to++] = data[from];
          }
        }
        resolve(values);
      };
      picture.onerror = reject;
      picture.src = address;
    });
  }

  async function load(index) {
    if (!loaded[index]) {
      const info = report.viewers[index];
      const labels = async (address) => address
        ? (await pixels(address, info)).map((grey) => Math.round(grey / report.legend.step)) : null;
      loaded[index] = {
        info,
        prediction: await labels(info.prediction),
        truth: await labels(info.truth),
        image: info.image ? await pixels(info.image, info) : null,
      };
    }
    return loaded[index];
  }

  // What is shown: a side, the classes and the kinds of errors that are switched on.
  let side = "prediction";
  const shown = { codes: [], errors: [] };
  function readChips() {
    shown.codes = report.legend.colours.map(() => false);
    each("[data-kind]", (box) => {
      report.legend.kinds[box.dataset.kind].codes.forEach((code) => { shown.codes[code] = box.checked; });
    });
    shown.errors = [false, false, false, false, false];
    each("[data-code]", (box) => { shown.errors[box.dataset.code] = box.checked; });
    each(".chip.error", (chip) => { chip.hidden = side !== "errors"; });
    each("#legend", (chips) => { chips.hidden = side === "image"; });
  }

  // Of one voxel: 0 nothing to show, 1 right, 2 extra, 3 missed, 4 another class.
  function agreement(predicted, true_) {
    if (true_ && true_ === report.legend.unknown) return 0;
    if (!shown.codes[predicted] && !shown.codes[true_]) return 0;
    if (predicted && true_) return report.legend.ids || predicted === true_ ? 1 : 4;
    return predicted ? 2 : true_ ? 3 : 0;
  }

  const others = [[1, 2], [0, 2], [0, 1]];
  function tones() {
    const style = getComputedStyle(root);
    return ["", "right", "extra", "missed", "wrong"].map((name) =>
      name ? style.getPropertyValue("--" + name).split(",").map(Number) : [0, 0, 0]);
  }

  function draw(axis) {
    const data = loaded[current];
    const figure = planes[axis];
    if (!data || figure.hidden) return;
    const { info, prediction, truth, image } = data;
    const [depth, height, width] = info.shape;
    const strides = [height * width, width, 1];
    const [down, across] = others[axis];
    const rows = info.shape[down], columns = info.shape[across];
    const canvas = figure.querySelector("canvas");
    if (canvas.width !== columns || canvas.height !== rows) {
      canvas.width = columns;
      canvas.height = rows;
    }
    const taller = fit(canvas, info, down, across);
    const context = canvas.getContext("2d");
    const picture = context.createImageData(columns, rows);
    const errors = side === "errors" && truth;
    const colours = errors ? tones() : report.legend.colours;
    const labels = side === "truth" ? truth : side === "image" ? null : prediction;
    const opacity = document.getElementById("opacity").value / 100;
    const lines = info.shape[0] > 1 ? 0.28 : 0;
    let to = 0;
    for (let i = 0; i < rows; i++) {
      let from = place[axis] * strides[axis] + i * strides[down];
      for (let j = 0; j < columns; j++, from += strides[across]) {
        let code = labels ? labels[from] : 0, edge = false;
        if (errors) {
          const kind = agreement(prediction[from], truth[from]);
          code = shown.errors[kind] ? kind : 0;
        } else if (code && shown.codes[code]) {
          // The outline tells objects of one colour apart.
          edge = (j + 1 < columns && labels[from + strides[across]] !== code)
            || (i + 1 < rows && labels[from + strides[down]] !== code)
            || (j > 0 && labels[from - strides[across]] !== code)
            || (i > 0 && labels[from - strides[down]] !== code);
        } else code = 0;
        const grey = image ? image[from] : 24;
        let mix = code ? (image ? opacity : 0.35 + 0.65 * opacity) : 0;
        if (edge && opacity) mix = image ? Math.min(1, mix + 0.4) : mix * 0.55;
        const tone = colours[code];
        const line = i === place[down] || j === place[across] ? lines : 0;
        for (let k = 0; k < 3; k++) {
          const value = grey * (1 - mix) + tone[k] * mix;
          picture.data[to++] = value + (255 - value) * line;
        }
        picture.data[to++] = 255;
      }
    }
    context.putImageData(picture, 0, 0);
    const full = place[axis] * info.step[axis];
    const away = info.unit === "um" ? ` \u00b7 ${(full * info.edges[axis]).toFixed(2)} um` : "";
    const tall = taller > 1.05 ? ` \u00b7 drawn ${taller.toFixed(1)} times taller` : "";
    const words = info.full[axis] > 1 ? `slice ${full} of ${info.full[axis]}${away}${tall}` : size(info);
    figure.querySelector("output").textContent = words;
    figure.querySelector(".slice").value = place[axis];
  }

  function size(info) {
    const [, high, wide] = info.full;
    const area = info.unit === "um"
      ? ` \u00b7 ${(high * info.edges[1]).toFixed(1)} x ${(wide * info.edges[2]).toFixed(1)} um` : "";
    return `${high} x ${wide} pixels${area}`;
  }

  // One slice needs one picture; a thin stack a large picture beside two strips.
  const grid = document.querySelector(".planes");
  const LEAST = 40;
  function layout(info) {
    const [deep, high, wide] = info.full.map((count, axis) => count * info.edges[axis]);
    const flat = info.full[0] === 1;
    const thin = !flat && deep < 0.45 * Math.min(high, wide);
    grid.classList.toggle("flat", flat);
    grid.classList.toggle("thin", thin);
    each(".deep", (words) => { words.hidden = flat; });
    planes.forEach((figure, axis) => { figure.hidden = flat && axis > 0; });
    planes.forEach((figure, axis) => { figure.querySelector(".slice").hidden = info.shape[axis] < 2; });
  }

  // Physical proportions: a voxel is as long as it is in the specimen. What would be
  // too low to see is drawn taller, and the heading says so.
  function fit(canvas, info, down, across) {
    const frame = canvas.parentElement;
    const high = info.full[down] * info.edges[down], wide = info.full[across] * info.edges[across];
    const main = down === 1 && (grid.classList.contains("flat") || grid.classList.contains("thin"));
    const most = Math.max(220, Math.min(main ? 620 : 380, 0.8 * innerHeight));
    const scale = Math.min(most / high, frame.clientWidth / wide);
    const tall = Math.max(LEAST, Math.round(high * scale));
    canvas.style.width = Math.max(2, Math.round(wide * scale)) + "px";
    canvas.style.height = tall + "px";
    frame.style.height = tall + "px";
    return tall / (high * scale);
  }

  function redraw() { planes.forEach((_, axis) => draw(axis)); }

  function show(index) {
    return load(index).then(({ info }) => {
      const fresh = index !== current || !show.done;
      current = index;
      show.done = true;
      const select = document.getElementById("volume");
      if (select) select.value = String(index);
      layout(info);
      planes.forEach((figure, axis) => {
        const slider = figure.querySelector(".slice");
        slider.max = info.shape[axis] - 1;
        if (fresh) {
          const worst = info.worst[axis];
          place[axis] = worst.length ? worst[0][0] : Math.floor(info.shape[axis] / 2);
          worstButtons(figure, axis, info);
        }
      });
      redraw();
      listeners.forEach((listener) => listener(index));
    });
  }

  function worstButtons(figure, axis, info) {
    const box = figure.querySelector(".worst");
    box.replaceChildren();
    if (!info.truth || info.shape[axis] < 2) return;
    box.append(info.worst[axis].length ? "worst first" : "no errors");
    info.worst[axis].forEach(([slice, wrong, right]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = slice * info.step[axis];
      button.title = `${wrong} wrong voxels, ${right} right`;
      button.addEventListener("click", () => { place[axis] = slice; choose("errors"); });
      box.append(button);
    });
  }

  planes.forEach((figure, axis) => {
    figure.querySelector(".slice").addEventListener("input", (event) => {
      place[axis] = Number(event.target.value);
      redraw();
    });
    const canvas = figure.querySelector("canvas");
    canvas.addEventListener("click", (event) => {
      const box = canvas.getBoundingClientRect();
      const [down, across] = others[axis];
      place[down] = Math.min(canvas.height - 1, Math.floor((event.clientY - box.top) / box.height * canvas.height));
      place[across] = Math.min(canvas.width - 1, Math.floor((event.clientX - box.left) / box.width * canvas.width));
      redraw();
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const most = report.viewers[current].shape[axis] - 1;
      place[axis] = Math.max(0, Math.min(most, place[axis] + Math.sign(event.deltaY)));
      redraw();
    }, { passive: false });
  });
  function choose(name) {
    side = name;
    each(`input[name="side"][value="${name}"]`, (button) => { button.checked = true; });
    refresh();
  }
  function refresh() {
    readChips();
    redraw();
    listeners.forEach((listener) => listener(current));
  }
  each('input[name="side"]', (button) => button.addEventListener("input", () => choose(button.value)));
  each("[data-kind], [data-code]", (box) => box.addEventListener("input", refresh));
  document.getElementById("opacity").addEventListener("input", redraw);
  readChips();
  const select = document.getElementById("volume");
  if (select) select.addEventListener("change", () => show(Number(select.value)));
  themeListeners.push(redraw);
  addEventListener("resize", redraw);

  function jump(index, voxel) {
    return show(index).then(() => {
      const { step, shape } = report.viewers[index];
      voxel.forEach((at, axis) => { place[axis] = Math.min(shape[axis] - 1, Math.floor(at / step[axis])); });
      redraw();
      document.getElementById("gallery").scrollIntoView();
    });
  }
  each("table.objects tbody tr", (row) => {
    const go = () => {
      each("tr.chosen", (other) => other.classList.remove("chosen"));
      row.classList.add("chosen");
      jump(Number(row.closest("table").dataset.viewer), row.dataset.place.split(",").map(Number));
    };
    row.addEventListener("click", go);
    row.addEventListener("keydown", (event) => { if (event.key === "Enter") go(); });
  });
  return { show, listeners, letters, place, shown };
})();

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
      const codes = await pixels(info.codes, info);
      for (let i = 0; i < codes.length; i++) codes[i] = Math.round(codes[i] / 50);
      const image = info.image ? await pixels(info.image, info) : null;
      loaded[index] = { info, codes, image };
    }
    return loaded[index];
  }

  const others = [[1, 2], [0, 2], [0, 1]];
  function tones() {
    const style = getComputedStyle(root);
    return ["", "right", "extra", "missed", "wrong"].map((name) =>
      name ? style.getPropertyValue("--" + name).split(",").map(Number) : [0, 0, 0]);
  }

  function draw(axis) {
    const data = loaded[current];
    if (!data) return;
    const { info, codes, image } = data;
    const [depth, height, width] = info.shape;
    const strides = [height * width, width, 1];
    const [down, across] = others[axis];
    const rows = info.shape[down], columns = info.shape[across];
    const figure = planes[axis];
    const canvas = figure.querySelector("canvas");
    if (canvas.width !== columns || canvas.height !== rows) {
      canvas.width = columns;
      canvas.height = rows;
    }
    fit(canvas, info, down, across);
    const context = canvas.getContext("2d");
    const picture = context.createImageData(columns, rows);
    const colours = tones();
    const shown = [false, false, false, false, false];
    each("[data-code]", (box) => { shown[box.dataset.code] = box.checked; });
    const opacity = document.getElementById("opacity").value / 100;
    let to = 0;
    for (let i = 0; i < rows; i++) {
      let from = place[axis] * strides[axis] + i * strides[down];
      for (let j = 0; j < columns; j++, from += strides[across]) {
        const code = codes[from];
        const grey = image ? image[from] : 24;
        const mix = code && shown[code] ? (image ? opacity : 0.35 + 0.65 * opacity) : 0;
        const tone = colours[code] || colours[0];
        const lines = i === place[down] || j === place[across] ? 0.28 : 0;
        for (let k = 0; k < 3; k++) {
          const value = grey * (1 - mix) + tone[k] * mix;
          picture.data[to++] = value + (255 - value) * lines;
        }
        picture.data[to++] = 255;
      }
    }
    context.putImageData(picture, 0, 0);
    const full = place[axis] * info.step[axis];
    const away = info.unit === "um" ? ` \u00b7 ${(full * info.edges[axis]).toFixed(2)} um` : "";
    figure.querySelector("output").textContent = `slice ${full} of ${info.full[axis]}${away}`;
    figure.querySelector(".slice").value = place[axis];
  }

  // Physical proportions: a voxel is as long as it is in the specimen.
  function fit(canvas, info, down, across) {
    const frame = canvas.parentElement;
    const high = info.full[down] * info.edges[down], wide = info.full[across] * info.edges[across];
    const scale = Math.min(frame.clientHeight / high, frame.clientWidth / wide);
    canvas.style.width = Math.max(2, Math.round(wide * scale)) + "px";
    canvas.style.height = Math.max(2, Math.round(high * scale)) + "px";
  }

  function redraw() { planes.forEach((_, axis) => draw(axis)); }

  function show(index) {
    return load(index).then(({ info }) => {
      const fresh = index !== current || !show.done;
      current = index;
      show.done = true;
      const select = document.getElementById("volume");
      if (select) select.value = String(index);
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
    if (!info.truth) return;
    box.append(info.worst[axis].length ? "worst first" : "no errors");
    info.worst[axis].forEach(([slice, wrong, right]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = slice * info.step[axis];
      button.title = `${wrong} wrong voxels, ${right} right`;
      button.addEventListener("click", () => { place[axis] = slice; redraw(); });
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
  each("[data-code], #opacity", (input) => input.addEventListener("input", redraw));
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
  return { show, listeners, letters, place };
})();

// Acts on a report as a reader would, and writes down what happened.
const seen = {errors: []};
addEventListener("error", (event) => seen.errors.push(String(event.message)));
addEventListener("unhandledrejection", (event) => seen.errors.push(String(event.reason)));
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const read = (canvas) => {
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const context = copy.getContext("2d", {willReadFrequently: true});
  context.drawImage(canvas, 0, 0);
  return context.getImageData(0, 0, copy.width, copy.height).data;
};
addEventListener("load", async () => {
  for (let i = 0; i < 100 && !document.documentElement.dataset.ready; i++) await wait(50);
  const plane = document.querySelector('.plane[data-axis="0"]');
  const canvas = plane.querySelector("canvas");
  const sum = () => {
    const data = read(canvas);
    const tally = {right: 0, extra: 0, missed: 0, grey: 0};
    for (let i = 0; i < data.length; i += 4) {
      const [r, g, b] = [data[i], data[i + 1], data[i + 2]];
      if (Math.abs(r - g) + Math.abs(g - b) < 12) tally.grey++;
      else if (g > r && b > r) tally.right++;
      else if (r > g && g > b) tally.extra++;
      else if (r > g && b > g) tally.missed++;
    }
    return tally;
  };
  const slide = (to) => {
    const slider = plane.querySelector(".slice");
    slider.value = to;
    slider.dispatchEvent(new Event("input", {bubbles: true}));
    return sum();
  };
  const chip = (selector, on) => {
    const box = document.querySelector(selector);
    box.checked = on;
    box.dispatchEvent(new Event("input", {bubbles: true}));
  };
  const press = (name) => {
    const button = document.querySelector(`input[name="side"][value="${name}"]`);
    button.checked = true;
    button.dispatchEvent(new Event("input", {bubbles: true}));
  };
  const coloured = () => {
    const data = read(canvas);
    let count = 0;
    for (let i = 0; i < data.length; i += 4) count += Math.max(data[i], data[i + 1], data[i + 2])
      - Math.min(data[i], data[i + 1], data[i + 2]) > 40;
    return count;
  };
  slide(4);
  seen.sides = {};
  ["image", "prediction", "truth", "errors"].forEach((name) => { press(name); seen.sides[name] = coloured(); });
  chip('[data-kind="0"]', false);
  seen.switched = coloured();
  chip('[data-kind="0"]', true);
  seen.start = plane.querySelector("output").textContent;
  seen.empty = slide(7);
  seen.slice4 = slide(4);
  seen.label4 = plane.querySelector("output").textContent;
  chip('[data-code="3"]', false);
  seen.hidden = sum();
  chip('[data-code="3"]', true);
  plane.querySelector(".worst button").click();
  seen.worst = plane.querySelector("output").textContent;
  const table = document.querySelector("table.objects");
  const ids = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
  table.querySelector("th button").click();
  seen.up = ids();
  table.querySelector("th button").click();
  seen.down = ids();
  const row = [...table.tBodies[0].rows].find((one) => one.cells[0].textContent === "4");
  row.click();
  await wait(100);
  seen.jumped = [...document.querySelectorAll(".plane .slice")].map((one) => Number(one.value));
  seen.place = row.dataset.place.split(",").map(Number);
  const scene = document.querySelector('canvas.scene[data-side="prediction"]');
  const before = scene.dataset.view;
  scene.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
  await wait(200);
  seen.turned = before !== scene.dataset.view;
  const pixels = read(scene);
  seen.drawn = 0;
  for (let i = 3; i < pixels.length; i += 4) seen.drawn += pixels[i] > 0;
  seen.theme = document.documentElement.dataset.theme;
  document.getElementById("theme").click();
  seen.other = document.documentElement.dataset.theme;
  seen.fetched = performance.getEntriesByType("resource").map((one) => one.name)
    .filter((name) => !name.startsWith("data:"));
  seen.wide = document.documentElement.scrollWidth > innerWidth + 1;
  const out = document.createElement("pre");
  out.id = "seen";
  out.textContent = JSON.stringify(seen);
  document.body.append(out);
});

// A photograph to move, mirror, darken and disturb, and what each network answers: nnlib.interactive.photo_lab.

nn.figure((root, { images, labels, class_names, names, networks, noise, noise_unit, reach }) => {
  const pictures = nn.list(nn.array(images));
  const [H, W, C] = pictures[0].shape;
  const asks = networks.map(Photos.network);
  const disturbance = nn.array(noise);
  const captions = Photos.captions(labels, class_names);
  const table = Photos.answers(class_names, names);
  const SIDE = 256;
  const canvas = nn.canvas(SIDE, (SIDE * H) / W, "The photograph: drag it, or move it with the arrow keys");
  const shifts = Array.from({ length: 2 * reach + 1 }, (_, i) => i - reach); // that "try every shift" tries, each way
  const CELL = 14; // of the maps
  const maps = names.map((name) => ({
    view: nn.canvas(CELL * shifts.length, CELL * shifts.length, `${name}: the shifts at which it is right`),
    count: nn.output(`${name} is right at`),
    right: new Map(), // "x y" of a shift -> is it right there?
  }));

  const chosen = nn.choice("Photograph", captions, change);
  const slider = (label, min, max, value, step, unit, oninput) =>
    nn.slider({ label, min, max, value, step, format: (v) => `${v}${unit}`, oninput });
  const right = slider("to the right", -10, 10, 0, 1, " px", show);
  const down = slider("down", -10, 10, 0, 1, " px", show);
  const brightness = slider("brightness", 0.2, 2, 1, 0.1, " ×", change);
  const level = slider("noise", 0, 100, 0, 5, " levels", change);
  const mirror = nn.toggle("mirror", false, change);
  const reset = nn.button("As it was taken", () => {
    [right.value, down.value, brightness.value, level.value, mirror.value] = [0, 0, 1, 0, false];
    change();
  });
  const every = nn.button("Try every shift", tryAll);
  const index = () => captions.indexOf(chosen.value);

  // The same steps, in the same order, as change_photo in nnlib/interactive/photos.py.
  function changed(right, down) {
    const picture = pictures[index()];
    const result = nn.shaped(new Uint8Array(H * W * C), H, W, C);
    for (let i = 0; i < result.length; i++) {
      const from = (Math.floor(i / C) % W) - right; // the column that this pixel comes from
      const row = Math.floor(i / (W * C)) - down;
      const column = mirror.value ? W - 1 - from : from;
      const inside = row >= 0 && row < H && column >= 0 && column < W;
      const value = inside ? picture[(row * W + column) * C + (i % C)] : 0;
      const disturbed = brightness.value * value + (level.value * disturbance[i]) / noise_unit;
      result[i] = Math.floor(nn.clamp(disturbed, 0, 255) + 0.5);
    }
    return Photos.floats(result);
  }

  function show() {
    const picture = changed(right.value, down.value);
    Photos.show(canvas, picture);
    table.update(asks.map((ask) => Net.softmax(ask(picture)[0])), labels[index()]);
    maps.forEach(drawMap);
  }

  // Another picture than the one that the maps are of.
  function change() {
    for (const map of maps) map.right = new Map();
    show();
  }

  // A cell for each shift: filled where the network is right, crossed out where it is wrong; a frame where we are.
  function drawMap({ view: { ctx, width, height }, right: answers, count }) {
    const { cool, warm, control, text } = nn.colours();
    Object.assign(ctx, { fillStyle: control, lineWidth: 1.5 });
    ctx.fillRect(0, 0, width, height);
    for (const [key, isRight] of answers) {
      const [x, y] = key.split(" ").map((shift) => (Number(shift) + reach) * CELL);
      ctx.fillStyle = cool;
      if (isRight) ctx.fillRect(x + 1, y + 1, CELL - 2, CELL - 2);
      ctx.strokeStyle = warm;
      if (!isRight) ctx.stroke(new Path2D(`M${x + 4} ${y + 4}l6 6m0 -6l-6 6`));
    }
    ctx.strokeStyle = text;
    ctx.strokeRect((right.value + reach) * CELL + 1, (down.value + reach) * CELL + 1, CELL - 2, CELL - 2);
    const hits = [...answers.values()].filter(Boolean).length;
    count.text = answers.size ? `${hits} of ${answers.size} shifts` : "not tried yet";
  }

  // A row of shifts at a time, so that the page stays awake; another picture ends it.
  async function tryAll() {
    change();
    const mine = maps[0].right;
    for (const y of shifts) {
      const row = shifts.map((x) => changed(x, y));
      const all = new Float32Array(row.length * row[0].length);
      row.forEach((picture, i) => all.set(picture, i * picture.length));
      asks.forEach((ask, n) => ask(all, row.length).forEach((logits, i) => {
        maps[n].right.set(`${shifts[i]} ${y}`, nn.argmax(logits) === labels[index()]);
      }));
      maps.forEach(drawMap);
      await new Promise((awake) => setTimeout(awake));
      if (mine !== maps[0].right) return;
    }
  }

  let start = null;
  nn.drag(canvas, {
    onpoint: ({ x, y }, event) => {
      if (event.type === "pointerdown") start = { x: x - (right.value * SIDE) / W, y: y - (down.value * SIDE) / W };
      right.value = Math.round(((x - start.x) * W) / SIDE);
      down.value = Math.round(((y - start.y) * W) / SIDE);
      show();
    },
    onarrow: (dx, dy) => {
      right.value += dx;
      down.value += dy;
      show();
    },
  });
  canvas.element.style.cursor = "grab";

  const tried = maps.map(({ view, count }, n) => nn.captioned(view, `${names[n]}: right at `, count));
  for (const map of tried) map.style.width = "8.5rem"; // two beside each other on a phone
  nn.add(root, nn.row(chosen, mirror, reset), nn.top(canvas, table), nn.row(right, down, brightness, level));
  nn.add(root, nn.row(every, nn.row(...tried)));
  nn.draw(show);
});

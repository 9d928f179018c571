// A square to drag over a picture; every place leaves on a map by how much it hurts: nnlib.interactive.occluder.

nn.figure((root, { network, images, labels, class_names, size, fills }) => {
  const pictures = nn.list(nn.array(images));
  const [H, W, C] = pictures[0].shape;
  const [rows, columns] = [H - size + 1, W - size + 1]; // places for the square
  const ask = Photos.network(network);
  const captions = Photos.captions(labels, class_names);
  const SIDE = 288;
  const PIXEL = SIDE / W;
  const view = nn.canvas(SIDE, PIXEL * H, "The picture: drag the square, or move it with the arrow keys");
  const map = nn.canvas(SIDE, PIXEL * H, "The map: red where hiding makes the loss rise, blue where it falls");
  const [says, chance, rise, worst] = ["answer", "probability", "rise", "worst"].map((name) => nn.output(name));
  const name = nn.element("span");
  const place = { row: Math.floor(rows / 2), column: Math.floor(columns / 2) };
  let visited = new Map(); // place -> rise of the loss

  const chosen = nn.choice("Picture", captions, restart);
  const fill = nn.choice("Hidden by", Object.keys(fills), restart);
  const whole = nn.button("Fill in the map", fillIn);
  const truth = () => labels[captions.indexOf(chosen.value)];
  let original, plain; // the picture, and its loss with nothing hidden

  function restart() {
    original = Photos.floats(pictures[captions.indexOf(chosen.value)]);
    plain = loss(ask(original)[0]);
    visited = new Map();
    show();
  }

  // The picture with the square on it, as hide in nnlib/interactive/photos.py.
  function hidden(row, column) {
    const picture = nn.shaped(original.slice(), ...original.shape);
    for (let r = row; r < row + size; r++) {
      picture.fill(fills[fill.value], (r * W + column) * C, (r * W + column + size) * C);
    }
    return picture;
  }

  // The cross-entropy, exact even where the true class is nearly sure.
  function loss(logits) {
    const t = truth();
    return Math.log1p(logits.reduce((sum, logit, k) => sum + (k === t ? 0 : Math.exp(logit - logits[t])), 0));
  }

  function show() {
    const picture = hidden(place.row, place.column);
    const logits = ask(picture)[0];
    const probabilities = Net.softmax(logits);
    visited.set(place.row * columns + place.column, loss(logits) - plain);
    name.textContent = class_names[truth()];
    says.text = class_names[nn.argmax(probabilities)];
    chance.text = nn.percent(probabilities[truth()]);
    chance.element.dataset.value = probabilities[truth()];
    rise.text = nn.signed(visited.get(place.row * columns + place.column), 3);
    Photos.show(view, picture);
    outline(view, place);
    drawMap();
  }

  function outline({ ctx }, { row, column }) {
    const square = new Path2D();
    square.rect(column * PIXEL, row * PIXEL, size * PIXEL, size * PIXEL);
    nn.outlined(ctx, square, "white", "black");
  }

  // Each place is drawn where the square's middle was.
  function drawMap() {
    const { ctx } = map;
    ctx.fillStyle = nn.colours().control;
    ctx.fillRect(0, 0, map.width, map.height);
    let top = [-Infinity];
    for (const [key, value] of visited) {
      const [row, column] = [Math.floor(key / columns), key % columns];
      if (value > top[0]) top = [value, row, column];
      ctx.fillStyle = `rgb(${nn.colour(value, -2, 2, "diverging")})`;
      ctx.fillRect((column + size / 2 - 1) * PIXEL, (row + size / 2 - 1) * PIXEL, 2 * PIXEL, 2 * PIXEL);
    }
    outline(map, place);
    worst.text = `${nn.signed(top[0], 3)} nats at row ${top[1]}, column ${top[2]}`;
  }

  // Every second place, a row at a time, so that the page stays awake; another picture ends it.
  async function fillIn() {
    const mine = visited;
    const places = Array.from({ length: Math.ceil(columns / 2) }, (_, i) => 2 * i);
    whole.element.disabled = true;
    for (let row = 0; row < rows && mine === visited; row += 2) {
      const all = new Float32Array(places.length * original.length);
      places.forEach((column, i) => all.set(hidden(row, column), i * original.length));
      ask(all, places.length).forEach((logits, i) => mine.set(row * columns + places[i], loss(logits) - plain));
      drawMap();
      await new Promise((awake) => setTimeout(awake));
    }
    whole.element.disabled = false;
  }

  function move(row, column) {
    place.row = nn.clamp(row, 0, rows - 1);
    place.column = nn.clamp(column, 0, columns - 1);
    show();
  }
  nn.drag(view, {
    onpoint: ({ x, y }) => move(Math.round(y / PIXEL - size / 2), Math.round(x / PIXEL - size / 2)),
    onarrow: (dx, dy) => move(place.row + dy, place.column + dx),
  });

  const left = nn.captioned(view, "Drag the square, or use the arrow keys.");
  const right = nn.captioned(map, "Where it has been: red, the loss rises (darkest: by 2 nats); blue, it falls.");
  for (const part of [left, right]) part.style.width = `${SIDE}px`;
  nn.draw(() => (original ? show() : restart()));
  const facts = nn.element("p");
  nn.add(facts, "It says ", says, ". Probability of the true class, ", name, ": ", chance);
  nn.add(facts, "; the loss has changed by ", rise, " nats. Worst place so far: ", worst, ".");
  nn.add(root, nn.row(chosen, fill, whole), facts, nn.top(left, right));
});

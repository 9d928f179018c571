// Draw a digit; see what a network that reads it row by row believes after each row.

nn.figure((root, { network, image_shape, labels, examples }) => {
  const [H, W] = image_shape;
  const [first, ...rest] = network.layers;
  const reader = Net.load({ layers: [{ ...first, return_sequences: true }] }); // its state after every row
  const judge = Net.load({ layers: rest });
  const whole = Net.load(network);
  const ways = { "stop and ask": stopAndAsk, "leave the rest blank": leaveBlank };
  let picture = null;

  // The probabilities after each row, one after the other, H rows of them.
  function stopAndAsk(x) {
    const states = reader.forward(x, [1, H, W]);
    return softmaxes(judge.forward(states.data, [H, states.shape[2]]));
  }
  function leaveBlank(x) {
    const covered = new Float32Array(H * H * W); // H pictures, each with one row more than the one before
    for (let t = 0; t < H; t++) covered.set(x.subarray(0, (t + 1) * W), t * H * W);
    return softmaxes(whole.forward(covered, [H, H, W]));
  }
  function softmaxes({ data, shape: [N, K] }) {
    const beliefs = new Float32Array(N * K);
    for (let n = 0; n < N; n++) beliefs.set(Net.softmax(data.subarray(n * K, (n + 1) * K)), n * K);
    return nn.shaped(beliefs, N, K);
  }

  const side = 196; // of the picture; the map beside it has a line for each of its rows
  const map = nn.canvas(2 * side, side + 20, "Left, what the network sees; right, what it believes after each row");
  const rows = nn.slider({ label: "rows read", min: 1, max: H, value: H, oninput: show });
  const way = nn.choice("then", Object.keys(ways), read);
  const { answer, bars, show: showAnswers } = Pad.answers(labels);
  let beliefs = null;

  function read() {
    beliefs = picture && ways[way.value](Float32Array.from(picture, (grey) => grey / 255));
    show();
  }
  function show() {
    const K = labels.length;
    showAnswers(beliefs && beliefs.subarray((rows.value - 1) * K, rows.value * K));
    drawMap();
  }
  function drawMap() {
    const { ctx } = map;
    const { text, warm, surface } = nn.colours();
    const [left, width, end] = [side + 10, side - 10, (rows.value * side) / H];
    ctx.clearRect(0, 0, map.width, map.height);
    ctx.fillStyle = "black";
    ctx.fillRect(0, 0, side, side);
    if (!beliefs) return;
    nn.pixels(map, picture, { width: side, height: side, low: 0, high: 255 });
    nn.pixels(map, beliefs, { x: left, width, height: side, low: 0, high: 1, map: "viridis" });
    ctx.fillStyle = surface; // what has not been read yet
    ctx.globalAlpha = 0.75;
    ctx.fillRect(0, end, map.width, side - end);
    ctx.globalAlpha = 1;
    ctx.fillStyle = warm;
    ctx.fillRect(0, end - 1, map.width, 2);
    ctx.fillStyle = text;
    ctx.textAlign = "center";
    labels.forEach((label, k) => ctx.fillText(label, left + ((k + 0.5) * width) / labels.length, side + 15));
  }

  const sheet = Pad.sheet({ shape: image_shape, examples, onchange: (next) => { picture = next; read(); } });
  nn.add(root, nn.top(sheet, nn.column(map, nn.row(rows), nn.row(way), answer, bars)));
  nn.draw(show); // again where the theme changes
});

// Two networks learn the same points, one with ReLU and one without: go through the epochs, and watch the boundary.
// The browser computes everything seen here from the weights that Python's training left after each epoch.

nn.figure((root, { points, labels, hidden, start, epochs, limit, networks }) => {
  const SIDE = 340; // of each plane, in its own units
  const CELLS = 68; // the plane is computed in 68 x 68 places
  const DARK = ["#000066", "#660000"]; // points of class 0 (circles) and class 1 (triangles)
  const BLACK = { strokeStyle: "black", lineCap: "round" };
  const places = nn.array(points);
  const truth = nn.array(labels);
  const probe = { x: 0, y: 0 }; // the place that one asks about, in the plane
  let units = start;

  const grid = new Float32Array(2 * CELLS * CELLS); // the middle of each cell
  for (let i = 0; i < CELLS * CELLS; i++) {
    grid[2 * i] = fromCanvas((((i % CELLS) + 0.5) * SIDE) / CELLS);
    grid[2 * i + 1] = -fromCanvas(((Math.floor(i / CELLS) + 0.5) * SIDE) / CELLS); // y points upwards
  }
  function fromCanvas(position) {
    return (2 * position / SIDE - 1) * limit;
  }
  function toCanvas([x, y]) {
    return [((x / limit + 1) * SIDE) / 2, ((1 - y / limit) * SIDE) / 2];
  }

  // The probability of class 1 at each place [x0, y0, x1, y1, ...]: the softmax of two logits.
  function beliefs(net, xy) {
    const logits = net.forward(Float32Array.from(xy), [xy.length / 2, 2]).data;
    const belief = new Float32Array(xy.length / 2);
    return belief.map((_, i) => 1 / (1 + Math.exp(logits[2 * i] - logits[2 * i + 1])));
  }

  // ------------------------------------------------------------------------------- one plane, with ReLU or without

  function plane(name, which) {
    const canvas = nn.canvas(SIDE, SIDE, `The plane ${name}. Drag the cross, or move it with the arrow keys.`);
    const { ctx } = canvas;
    const score = nn.output(`accuracy ${name}`);
    const here = nn.output(`probability ${name}`);
    nn.drag(canvas, {
      onpoint: ({ x, y }) => move(fromCanvas(x), -fromCanvas(y)),
      onarrow: (dx, dy) => move(probe.x + 0.05 * dx, probe.y - 0.05 * dy),
    });

    function show() {
      const network = networks[units][which][steps.value];
      const net = Net.load(network);
      const belief = nn.shaped(beliefs(net, grid), CELLS, CELLS);
      const pale = { low: -0.4, high: 1.4 }; // so that the points stand out
      nn.pixels(canvas, belief, { width: SIDE, height: SIDE, ...pale, map: "diverging" });
      if (which === 1) creases(network.layers[0]);
      boundary(belief);
      const answers = beliefs(net, places);
      let correct = 0;
      answers.forEach((answer, i) => {
        const right = (answer > 0.5) === (truth[i] === 1);
        correct += right;
        mark(toCanvas(places.subarray(2 * i, 2 * i + 2)), truth[i], right);
      });
      cross(toCanvas([probe.x, probe.y]));
      score.text = nn.percent(correct / truth.length);
      here.text = beliefs(net, [probe.x, probe.y])[0].toFixed(4);
    }

    // Where each hidden unit switches on: x W[0][k] + y W[1][k] + b[k] = 0, drawn from the line's foot both ways.
    function creases({ W, b }) {
      const [weights, biases] = [nn.array(W), nn.array(b)];
      biases.forEach((bias, k) => {
        const [u, v] = [weights[k], weights[biases.length + k]];
        const square = u * u + v * v;
        const foot = [(-bias * u) / square, (-bias * v) / square];
        const far = (4 * limit) / Math.sqrt(square);
        const ends = [-far, far].map((along) => toCanvas([foot[0] + along * v, foot[1] - along * u]));
        nn.line(ctx, ends, { ...BLACK, lineWidth: 1.5, dash: [2, 4] });
      });
    }

    // Where the belief crosses one half: a short line between two edges of each square of four neighbouring cells.
    function boundary(belief) {
      const size = SIDE / CELLS;
      const at = (row, column) => belief[row * CELLS + column] - 0.5;
      for (let row = 0; row < CELLS - 1; row++) {
        for (let column = 0; column < CELLS - 1; column++) {
          const corners = [[row, column], [row, column + 1], [row + 1, column + 1], [row + 1, column]];
          const crossings = [];
          corners.forEach(([r, c], k) => {
            const [nextR, nextC] = corners[(k + 1) % 4];
            const [from, to] = [at(r, c), at(nextR, nextC)];
            if (from > 0 === to > 0) return;
            const part = from / (from - to);
            crossings.push([(c + 0.5 + part * (nextC - c)) * size, (r + 0.5 + part * (nextR - r)) * size]);
          });
          if (crossings.length > 1) nn.line(ctx, crossings.slice(0, 2), { ...BLACK, lineWidth: 3 });
        }
      }
    }
    function mark([x, y], label, right) {
      ctx.beginPath();
      if (label === 0) ctx.arc(x, y, 3.2, 0, 2 * Math.PI);
      else [[0, -4.2], [3.9, 2.8], [-3.9, 2.8]].forEach(([dx, dy]) => ctx.lineTo(x + dx, y + dy));
      ctx.closePath();
      ctx.fillStyle = right ? DARK[label] : "white"; // hollow: wrong
      [ctx.lineWidth, ctx.strokeStyle] = [1.3, DARK[label]];
      ctx.fill();
      ctx.stroke();
    }
    function cross([x, y]) {
      nn.outlined(ctx, new Path2D(`M${x - 9} ${y}h18M${x} ${y - 9}v18`));
    }

    const column = nn.column(
      nn.element("strong", {}, name[0].toUpperCase() + name.slice(1)),
      canvas,
      nn.element("div", {}, score, " of the points right"),
      nn.element("div", {}, "triangle at the cross: ", here),
    );
    column.style.flexBasis = "9.5rem"; // side by side on a phone too: one compares them
    return { element: column, show };
  }

  function move(x, y) {
    [probe.x, probe.y] = [x, y].map((value) => nn.clamp(value, -limit, limit));
    showAll();
  }
  function showAll() {
    planes.forEach(({ show }) => show());
  }

  const planes = [plane("without ReLU", 0), plane("with ReLU", 1)];
  const steps = nn.player({ labels: epochs.map(String), label: "epoch", value: 0, show: showAll });
  const choice = nn.choice("hidden units", hidden.map(String), (text) => {
    units = hidden.map(String).indexOf(text);
    showAll();
  });
  choice.value = String(hidden[start]);
  const hint = "Dotted: where a hidden unit switches on. Hollow: read wrongly. ";
  const keys = "Drag the cross, or move it with the arrow keys.";
  nn.add(root, nn.top(...planes), steps, choice, nn.element("small", {}, hint + keys));
  showAll();
});

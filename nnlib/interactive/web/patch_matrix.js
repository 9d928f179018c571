// The matrix of patches grows row by row; a pixel shows where its copies are: nnlib.interactive.patch_matrix.

nn.figure((root, { image, kernel_size: [kh, kw], stride, padding }) => {
  const values = nn.array(image);
  const [H, W] = values.shape;
  const places = kh * kw;
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
  const picture = nn.canvas(300, 300, "The picture. Arrow keys choose a pixel.");
  const matrix = nn.canvas(340, 460, "The matrix of patches: one row for each position of the window.");
  const pixel = { row: Math.floor(H / 2), column: Math.floor(W / 2) };
  let [across, rows, cell] = [0, 0, 0]; // positions in a row of the picture, rows of the matrix, size of a drawn pixel

  const position = nn.slider({ label: "position", min: 0, max: 1, value: 0, oninput: show });
  const strides = nn.choice("stride", ["1", "2", "3"], (text) => { stride = Number(text); measure(); });
  const paddings = nn.choice("padding", ["0", "1", "2"], (text) => { padding = Number(text); measure(); });
  const outputs = ["window", "matrix", "pixel", "copies", "copies so far"].map((name) => nn.output(name));
  const [where, size, chosen, copies, soFar] = outputs;

  // The pixel [row, column] in this place of the patch at position p; it may lie in the padding.
  function source(p, place) {
    const [top, left] = corner(p);
    return [top + Math.floor(place / kw), left + (place % kw)];
  }

  function corner(p) {
    return [Math.floor(p / across) * stride - padding, (p % across) * stride - padding];
  }

  // The entries [p, place] of the matrix that are copies of the chosen pixel.
  function copiesOfPixel() {
    const found = [];
    for (let p = 0; p < rows; p++) {
      for (let place = 0; place < places; place++) {
        const [row, column] = source(p, place);
        if (row === pixel.row && column === pixel.column) found.push([p, place]);
      }
    }
    return found;
  }

  function measure() {
    across = Math.floor((W + 2 * padding - kw) / stride) + 1;
    rows = across * (Math.floor((H + 2 * padding - kh) / stride) + 1);
    cell = Math.floor(Math.min(300 / (W + 2 * padding), 300 / (H + 2 * padding)));
    position.input.max = rows - 1;
    position.value = Math.min(position.value, rows - 1);
    show();
  }

  function show() {
    const found = copiesOfPixel();
    const [top, left] = corner(position.value);
    drawPicture(top, left);
    drawMatrix(found);
    where.text = `row ${top}, column ${left}`;
    size.text = `${rows} rows of ${places}`;
    chosen.text = `row ${pixel.row}, column ${pixel.column}`;
    copies.text = found.length;
    soFar.text = found.filter(([p]) => p <= position.value).length;
  }

  function grey(value) {
    return `rgb(${nn.colour(value, low, high)})`;
  }

  function frame({ ctx }, colour, x, y, width, height, thick = 3) {
    [ctx.strokeStyle, ctx.lineWidth] = [colour, thick];
    ctx.strokeRect(x + thick / 2, y + thick / 2, width - thick, height - thick);
  }

  function drawPicture(top, left) {
    const { ctx } = picture;
    const { warm, grid, series } = nn.colours();
    ctx.clearRect(0, 0, 300, 300);
    for (let row = -padding; row < H + padding; row++) {
      for (let column = -padding; column < W + padding; column++) {
        const inside = row >= 0 && row < H && column >= 0 && column < W;
        const [x, y] = [(column + padding) * cell, (row + padding) * cell];
        ctx.fillStyle = inside ? grey(values[row * W + column]) : grey(0);
        ctx.fillRect(x, y, cell, cell);
        frame(picture, grid, x, y, cell, cell, inside ? 0.5 : 1.5); // the padding has a heavier grid
      }
    }
    ctx.fillStyle = series[0];
    ctx.fillRect((pixel.column + padding) * cell, (pixel.row + padding) * cell, cell, cell);
    frame(picture, warm, (left + padding) * cell, (top + padding) * cell, kw * cell, kh * cell, 4);
  }

  // A row that is written shows its pixels, one that is still to come is empty; so with the copies: full, or hollow.
  function drawMatrix(found) {
    const { ctx, width } = matrix;
    const { warm, grid, control, series } = nn.colours();
    const [w, h] = [width / places, Math.min(30, matrix.height / rows)];
    ctx.clearRect(0, 0, width, matrix.height);
    for (let p = 0; p < rows; p++) {
      for (let place = 0; place < places; place++) {
        const [row, column] = source(p, place);
        const inside = row >= 0 && row < H && column >= 0 && column < W;
        ctx.fillStyle = p > position.value ? control : grey(inside ? values[row * W + column] : 0);
        ctx.fillRect(place * w, p * h, w, h);
        frame(matrix, grid, place * w, p * h, w, h, 0.5);
      }
    }
    ctx.fillStyle = series[0];
    for (const [p, place] of found) {
      if (p <= position.value) ctx.fillRect(place * w, p * h, w, h);
      else frame(matrix, series[0], place * w, p * h, w, h, 2);
    }
    frame(matrix, warm, 0, position.value * h, width, h);
  }

  function choose(row, column) {
    pixel.row = nn.clamp(row, 0, H - 1);
    pixel.column = nn.clamp(column, 0, W - 1);
    show();
  }
  const at = ({ x, y }) => choose(Math.floor(y / cell) - padding, Math.floor(x / cell) - padding);

  nn.drag(picture, { onpoint: at, onarrow: (dx, dy) => choose(pixel.row + dy, pixel.column + dx) });
  picture.element.addEventListener("pointermove", (event) => at(picture.point(event))); // a mouse need not press
  const sheets = nn.top(picture, matrix);
  sheets.style.flexWrap = "nowrap"; // a phone shows both side by side too, smaller
  [strides.value, paddings.value] = [String(stride), String(padding)];
  const said = (...parts) => nn.element("p", {}, ...parts);
  nn.add(
    root,
    nn.row(position, strides, paddings),
    said("The window's corner: ", where, ". Its patch is the framed row. The whole matrix: ", size, "."),
    sheets,
    said("Blue, the pixel in ", chosen, ": copied ", copies, " times in all, ", soFar, " so far. ",
      "col2im adds up as many gradients for it as it has copies."),
  );
  measure();
  nn.draw(show);
});

// Draw a digit; see what the network sees, and how sure it is of each answer.

nn.figure((root, { network, input_shape, image_shape, labels, examples, note }) => {
  const [H, W] = image_shape;
  const net = Net.load(network);
  const seen = nn.canvas(140, (140 * H) / W, "What the network sees");
  const { answer, bars, show } = Pad.answers(labels);

  function read(picture) {
    seen.ctx.fillRect(0, 0, seen.width, seen.height); // black, as an empty picture is
    if (picture) nn.pixels(seen, picture, { width: seen.width, height: seen.height, low: 0, high: 255 });
    show(picture && Net.softmax(net.forward(Float32Array.from(picture, (grey) => grey / 255), input_shape).data));
  }

  const sheet = Pad.sheet({ shape: image_shape, examples, onchange: read });
  const said = `What the network sees: ${W} × ${H} pixels, the digit as large as those it has learnt from.`;
  const caption = nn.element("small", {}, said);
  const words = nn.column(answer, caption);
  words.style.flex = "1 1 8rem"; // beside the picture, on a phone too
  const pad = nn.top(sheet, nn.column(nn.row(seen, words), bars));
  nn.add(root, ...(note ? [nn.element("p", {}, note)] : []), pad);
  net.forward(new Float32Array(H * W).fill(1), input_shape); // the first pass is slow: the browser compiles it
  read(null);
});

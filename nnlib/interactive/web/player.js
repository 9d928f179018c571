// A slider over pictures that Python drew: nnlib.interactive.player.
nn.figure((root, { frames, labels, label, start, alt, width, height, pixelated }) => {
  const player = nn.player({ frames, labels, label, value: start, alt });
  const picture = player.element.querySelector("img");
  Object.assign(picture, { width, height }); // before the first is there: the page does not jump
  if (pixelated) picture.classList.add("pixelated");
  nn.add(root, player);
});

// Pictures as the network wants them.

/**
 * A picture of any size as `side` x `side` grey values from 0 to 1, the piece bright on
 * a dark ground as in the training data.
 */
export async function pictureFrom(file, side) {
  const image = await createImageBitmap(file);
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  const crop = Math.min(image.width, image.height);
  const left = (image.width - crop) / 2;
  const top = (image.height - crop) / 2;
  context.fillStyle = "white"; // behind transparent pictures
  context.fillRect(0, 0, side, side);
  context.drawImage(image, left, top, crop, crop, 0, 0, side, side);
  const { data } = context.getImageData(0, 0, side, side);
  const grey = Float32Array.from({ length: side * side }, (_, place) => {
    const [red, green, blue] = data.subarray(4 * place, 4 * place + 3);
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255;
  });
  return borderMean(grey, side) > 0.5 ? grey.map((value) => 1 - value) : grey;
}

function borderMean(grey, side) {
  const border = grey.filter((_, place) => {
    const [row, column] = [Math.floor(place / side), place % side];
    return row === 0 || column === 0 || row === side - 1 || column === side - 1;
  });
  return border.reduce((sum, value) => sum + value, 0) / border.length;
}

/** Bilinear, with the centres of pixels at halves, repeated for each channel. */
export function enlarged(picture, side, height, width, channels) {
  const values = new Float32Array(height * width * channels);
  for (let row = 0; row < height; row++) {
    const [top, bottom, down] = neighbours(row, height, side);
    for (let column = 0; column < width; column++) {
      const [left, right, along] = neighbours(column, width, side);
      const upper = mix(picture[top * side + left], picture[top * side + right], along);
      const lower = mix(picture[bottom * side + left], picture[bottom * side + right], along);
      const place = channels * (row * width + column);
      values.fill(mix(upper, lower, down), place, place + channels);
    }
  }
  return values;
}

function neighbours(place, size, side) {
  const centre = ((place + 0.5) * side) / size - 0.5;
  const before = Math.floor(centre);
  const inside = (value) => Math.min(Math.max(value, 0), side - 1);
  return [inside(before), inside(before + 1), centre - before];
}

function mix(a, b, share) {
  return a + (b - a) * share;
}

export function softmax(values) {
  const largest = Math.max(...values);
  const powers = Array.from(values, (value) => Math.exp(value - largest));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => value / sum);
}

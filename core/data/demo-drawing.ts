/** An invented person as SVG: facesjs draws the parts, the anatomy moves and scales them. */
import { type FaceConfig, faceToSvgString } from 'facesjs';
import type { Anatomy } from './demo-anatomy.ts';
import type { DemoPerson } from './demo-person.ts';

/** What changes from image to image of one person. */
export interface Pose {
  /** Degrees. */
  roll: number;
  /** Units that eyes, nose and mouth move sideways and up or down against the head: a turned head. */
  turn: { x: number; y: number };
  /** Degrees of horizontal shear. */
  shear: number;
  scale: { x: number; y: number };
  shift: { x: number; y: number };
}

export interface Expression {
  mouth: string;
  mouthFlip: boolean;
  browAngle: number;
}

type Part = Exclude<keyof FaceConfig, 'fatness' | 'teamColors'>;

/** Middle of eyes and mouth on facesjs's canvas: everything turns around it. */
const faceCentre = { x: 200, y: 353 };
const eyes = { left: 140, right: 260, y: 310 };
const nose = { x: 200, y: 370 };
const mouth = { x: 200, y: 440 };
const ears = { left: 55, right: 345, y: 325 };

/** The inner SVG of some parts alone, as facesjs draws them. */
function drawParts(face: FaceConfig, parts: readonly Part[]): string {
  const alone = structuredClone(face);
  for (const part of Object.keys(alone) as (keyof FaceConfig)[]) {
    if (part === 'fatness' || part === 'teamColors' || parts.includes(part)) continue;
    alone[part].id = 'none';
  }
  return faceToSvgString(alone)
    .replace(/^<svg[^>]*>/, '')
    .replace(/<\/svg>\s*$/, '');
}

const around = (x: number, y: number, transform: string, inner: string) =>
  `<g transform="translate(${x.toFixed(2)} ${y.toFixed(2)}) ${transform} translate(${-x.toFixed(2)} ${-y.toFixed(2)})">${inner}</g>`;
const moved = (x: number, y: number, inner: string) =>
  `<g transform="translate(${x.toFixed(2)} ${y.toFixed(2)})">${inner}</g>`;
const scaled = (x: number, y: number, scaleX: number, scaleY: number, inner: string) =>
  around(x, y, `scale(${scaleX.toFixed(4)} ${scaleY.toFixed(4)})`, inner);
const half = (side: 'left' | 'right', inner: string) => `<g clip-path="url(#${side})">${inner}</g>`;

/** Draws left and right of a pair with its own transform each; no part crosses the middle. */
const pair = (inner: string, place: (side: 'left' | 'right', half: string) => string) =>
  place('left', half('left', inner)) + place('right', half('right', inner));

function drawEyes(face: FaceConfig, anatomy: Anatomy): string {
  return pair(drawParts(face, ['eye']), (side, inner) => {
    const sign = side === 'left' ? -1 : 1;
    const turned = around(
      eyes[side],
      eyes.y,
      `rotate(${(-sign * anatomy.eyeTilt).toFixed(2)}) scale(${anatomy.eyeScale.toFixed(4)})`,
      inner,
    );
    return moved(sign * anatomy.eyeSpacing, 0, turned);
  });
}

function drawBrows(face: FaceConfig, anatomy: Anatomy): string {
  return pair(drawParts(face, ['eyebrow']), (side, inner) =>
    moved((side === 'left' ? -1 : 1) * anatomy.eyeSpacing, 0, inner),
  );
}

function drawEars(face: FaceConfig, anatomy: Anatomy): string {
  return pair(drawParts(face, ['ear']), (side, inner) =>
    moved(0, anatomy.earDrop, scaled(ears[side], ears.y, anatomy.earScale, anatomy.earScale, inner)),
  );
}

/** The parts of a face that turn with the head's surface, and those that make its outline. */
function drawInner(face: FaceConfig, anatomy: Anatomy): string {
  return [
    drawParts(face, ['eyeLine', 'miscLine']),
    moved(0, anatomy.philtrum, drawParts(face, ['smileLine'])),
    drawParts(face, ['facialHair']),
    drawEyes(face, anatomy),
    drawBrows(face, anatomy),
    moved(0, anatomy.philtrum, scaled(mouth.x, mouth.y, anatomy.mouthWidth, 1, drawParts(face, ['mouth']))),
    scaled(nose.x, nose.y - 25, anatomy.noseWidth, anatomy.noseLength, drawParts(face, ['nose'])),
  ].join('');
}

/**
 * SVG of a person, `size` × `size` pixels, framed as the face recognition network's crops are.
 * @param background SVG that is drawn behind the person, on a canvas from (0, 0) to (100, 100)
 */
export function drawPortrait(
  person: DemoPerson,
  pose: Pose,
  expression: Expression,
  background: string,
  size: number,
): string {
  const { anatomy } = person;
  const face = structuredClone(person.face);
  face.mouth = { id: expression.mouth, flip: expression.mouthFlip };
  face.eyebrow.angle = expression.browAngle;
  const head = [
    drawEars(face, anatomy),
    drawParts(face, ['head']),
    moved(pose.turn.x, pose.turn.y, drawInner(face, anatomy)),
    drawParts(face, ['hair']),
    moved(pose.turn.x * 0.6, pose.turn.y * 0.6, drawParts(face, ['glasses', 'accessories'])),
  ].join('');
  const { x, y } = faceCentre;
  const body = drawParts(face, ['hairBg', 'body', 'jersey']) + scaled(x, y, anatomy.headWidth, 1, head);
  const posed = around(
    x,
    y,
    `rotate(${pose.roll.toFixed(2)}) skewX(${pose.shear.toFixed(2)}) scale(${pose.scale.x.toFixed(4)} ${pose.scale.y.toFixed(4)})`,
    body,
  );
  // Side of the frame on facesjs's canvas: eyes to mouth is 143 units, a little under 0.45 of the frame.
  const side = 340;
  const left = x - side / 2;
  const top = y - 0.45 * side;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${size}" height="${size}" viewBox="${left} ${top} ${side} ${side}"><defs><clipPath id="left"><rect x="-200" y="0" width="400" height="600"/></clipPath><clipPath id="right"><rect x="200" y="0" width="400" height="600"/></clipPath></defs><g transform="translate(${left} ${top}) scale(${side / 100})">${background}</g>${moved(pose.shift.x, pose.shift.y, posed)}</svg>`;
}

/** Reading operator attributes with the defaults that the ONNX operator pages give. */
import type { Attribute } from './graph.ts';

export type Attributes = Readonly<Record<string, Attribute>>;

export function integerOf(attributes: Attributes, name: string, fallback: number): number {
  const value = attributes[name];
  return typeof value === 'number' ? value : fallback;
}

export function floatOf(attributes: Attributes, name: string, fallback: number): number {
  const value = attributes[name];
  return typeof value === 'object' && 'float' in value ? value.float : fallback;
}

export function integersOf(attributes: Attributes, name: string, fallback: readonly number[]): number[] {
  const value = attributes[name];
  return Array.isArray(value) ? value.map(Number) : [...fallback];
}

export function stringOf(attributes: Attributes, name: string, fallback: string): string {
  const value = attributes[name];
  return typeof value === 'string' ? value : fallback;
}

/** Drops what is undefined, so that optional settings can be passed straight on. */
export function definedAttributes(attributes: Record<string, Attribute | undefined>): Attributes {
  const defined: Record<string, Attribute> = {};
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) defined[name] = value;
  return defined;
}

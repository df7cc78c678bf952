/** Graphics processors as macOS tells them through system_profiler. */
import { z } from 'zod';
import { outputOf } from '../../process/child-process.ts';
import { jsonText } from '../../shared/text.ts';
import { type GraphicsCard, shortVendor } from './graphics-card.ts';

const toolTimeoutMs = 15_000;

const answerSchema = z.object({
  SPDisplaysDataType: z.array(
    z.object({
      sppci_model: z.string().optional(),
      _name: z.string().optional(),
      spdisplays_vendor: z.string().optional(),
      /** For instance `8 GB`; integrated ones have `_shared` or no entry at all. */
      spdisplays_vram: z.string().optional(),
      _spdisplays_vram: z.string().optional(),
      spdisplays_mtlgpufamilysupport: z.string().optional(),
    }),
  ),
});

export async function listMacCards(): Promise<GraphicsCard[]> {
  const args = ['SPDisplaysDataType', '-json'];
  const text = await outputOf('/usr/sbin/system_profiler', args, toolTimeoutMs);
  return text === null ? [] : parseMacCards(text);
}

/** @param text JSON of `system_profiler SPDisplaysDataType -json`; anything else gives no cards */
export function parseMacCards(text: string): GraphicsCard[] {
  const answer = jsonText.pipe(answerSchema).safeParse(text).data;
  return (answer?.SPDisplaysDataType ?? []).map((entry) => {
    const name = entry.sppci_model ?? entry._name ?? 'Graphics processor';
    const memoryBytes = readSize(entry.spdisplays_vram ?? entry._spdisplays_vram);
    const metal = /metal(\d+)$/.exec(entry.spdisplays_mtlgpufamilysupport ?? '')?.[1];
    return {
      vendor: vendorOf(entry.spdisplays_vendor ?? name),
      name,
      ...(memoryBytes === undefined ? { integrated: true } : { memoryBytes }),
      ...(metal === undefined ? {} : { driver: `Metal ${metal}` }),
    };
  });
}

/** `sppci_vendor_Apple`, `AMD (0x1002)`. */
function vendorOf(text: string): string {
  return shortVendor(text.replace(/^sppci_vendor_/, '').replace(/ *\(0x[0-9a-f]+\)$/i, ''));
}

function readSize(text: string | undefined): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?(MB|GB)$/.exec(text ?? '');
  if (match === null) return undefined;
  return Number(match[1]) * (match[2] === 'GB' ? 2 ** 30 : 2 ** 20);
}

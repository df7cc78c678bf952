import { Button, Group, TextInput } from '@mantine/core';
import { IconFile, IconFolder } from '@tabler/icons-react';
import { type ReactNode, useId } from 'react';
import { type AnnealBridge, desktopBridge, type FileFilter } from '../api/bridge.ts';

interface PathFieldProps {
  label: string;
  /** Unless given, where a path that is typed leads. */
  description?: string;
  placeholder?: string;
  value: string;
  onChange: (path: string) => void;
  /** After a path was chosen in the system's dialog, which is a whole one. */
  onChosen?: (path: string) => void;
  error?: ReactNode;
  /** What the native dialog chooses: a folder, a file that is there, or one that is to be written. */
  choose: 'folder' | FileFilter[] | { newFile: FileFilter[] };
}

/** A path on this machine: chosen in the system's own dialog in the desktop app, typed in a browser. */
export function PathField({ choose, onChange, onChosen, label, description, ...input }: PathFieldProps) {
  const id = useId();
  const bridge = desktopBridge();
  const browse = async () => {
    const path = bridge && (await chosenPath(bridge, choose));
    if (path === null) return;
    onChange(path);
    onChosen?.(path);
  };
  return (
    <Group align="flex-end" wrap="nowrap" gap="xs">
      <TextInput
        id={id}
        label={label}
        description={description ?? (bridge ? undefined : 'A path on the machine where Anneal runs.')}
        style={{ flex: 1 }}
        spellCheck={false}
        onChange={(event) => onChange(event.currentTarget.value)}
        {...input}
      />
      {bridge && (
        <Button
          variant="default"
          leftSection={
            choose === 'folder' ? <IconFolder size={16} aria-hidden /> : <IconFile size={16} aria-hidden />
          }
          onClick={() => void browse()}
          aria-label={`Choose: ${label}`}
        >
          Choose…
        </Button>
      )}
    </Group>
  );
}

function chosenPath(bridge: AnnealBridge, choose: PathFieldProps['choose']): Promise<string | null> {
  if (choose === 'folder') return bridge.chooseFolder();
  return 'newFile' in choose ? bridge.chooseNewFile(choose.newFile) : bridge.chooseFile(choose);
}

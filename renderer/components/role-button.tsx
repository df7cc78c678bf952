import { Button, type ButtonProps, Menu, Tooltip } from '@mantine/core';
import type { ComponentPropsWithoutRef, MouseEvent, ReactNode } from 'react';
import type { Role } from '../../core/config/roles.ts';
import { useMissingRole } from '../api/me.ts';

interface RoleButtonProps extends ButtonProps, Omit<ComponentPropsWithoutRef<'button'>, keyof ButtonProps> {
  /** One of these is enough. */
  needs: readonly Role[];
}

/** A button for some roles: others see it, and why it is not for them. */
export function RoleButton({ needs, onClick, type, ...button }: RoleButtonProps) {
  const missing = useMissingRole(needs);
  if (missing === null) return <Button {...button} {...(type && { type })} {...(onClick && { onClick })} />;
  // Not `disabled`: a disabled button tells neither a mouse nor a screen reader why.
  const refuse = (event: MouseEvent) => event.preventDefault();
  return (
    <Tooltip label={missing} events={{ hover: true, focus: true, touch: true }}>
      <Button {...button} type="button" data-disabled aria-disabled onClick={refuse} />
    </Tooltip>
  );
}

interface RoleMenuProps extends Omit<RoleButtonProps, 'onClick' | 'type'> {
  /** `Menu.Item`s. */
  items: ReactNode;
}

/** A menu for some roles; others see its button, and why it is not for them: a menu of what one may not do is no help. */
export function RoleMenu({ needs, items, ...button }: RoleMenuProps) {
  const missing = useMissingRole(needs);
  if (missing !== null) return <RoleButton needs={needs} {...button} />;
  return (
    <Menu position="bottom-end" withinPortal>
      <Menu.Target>
        <Button {...button} />
      </Menu.Target>
      <Menu.Dropdown>{items}</Menu.Dropdown>
    </Menu>
  );
}

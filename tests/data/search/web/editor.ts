/** A caret or selection of somebody else. */
export interface RemoteCursor {
  user: string;
  from: number;
  to: number;
}

export class Editor {
  private undoStack: string[] = [];
  private text = '';

  /** Puts text at a position and remembers the state before. */
  insertText(at: number, text: string): void {
    this.undoStack.push(this.text);
    this.text = this.text.slice(0, at) + text + this.text.slice(at);
  }

  /** Takes back the last change. */
  undo(): boolean {
    const before = this.undoStack.pop();
    if (before === undefined) return false;
    this.text = before;
    return true;
  }
}

/** Colours the code for the screen. */
export function highlightSyntax(line: string): string {
  return line.replace(/\b(let|const|function)\b/g, '<b>$1</b>');
}

package maildirname

const separator = ";"

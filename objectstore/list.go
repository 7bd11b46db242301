package objectstore

// links are an object's place in a list.
type links struct{ prev, next *object }

// list is a doubly linked list through one of the links that every object has, so that moving an object allocates nothing.
type list struct {
	first, last *object
	links       func(*object) *links
	length      int
	bytes       int64
}

// pushBack adds an object that is not in the list.
func (l *list) pushBack(o *object) {
	own := l.links(o)
	own.prev, own.next = l.last, nil
	if l.last != nil {
		l.links(l.last).next = o
	} else {
		l.first = o
	}
	l.last = o
	l.length++
	l.bytes += o.size
}

// remove takes an object out that is in the list.
func (l *list) remove(o *object) {
	own := l.links(o)
	if own.prev != nil {
		l.links(own.prev).next = own.next
	} else {
		l.first = own.next
	}
	if own.next != nil {
		l.links(own.next).prev = own.prev
	} else {
		l.last = own.prev
	}
	*own = links{}
	l.length--
	l.bytes -= o.size
}
